"""What a run says: lines for people (terminal, log.txt), lines for programs (metrics.jsonl), and wandb.

What is special here:
- Only rank 0 writes; on other ranks and with wandb off, the same calls reach objects that do nothing.
- After a resume, metrics.jsonl holds no step twice: what was logged after the checkpoint is removed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from data_engine.files import atomic_write_text
from train.config import TrainConfig
from train.deepspeed_engine import TrainingEngine
from train.guard import as_ranges
from train.plots import draw_training, read_metrics
from train.run_directory import RunDirectory
from train.tracking import NoTracker, Tracker, WandbTracker


class RunLog:
    """The log of rank 0. `say` for sentences, `step` for numbers."""

    def __init__(self, config: TrainConfig, run: RunDirectory, first_step: int) -> None:
        self._run, self._plot = run, config.logging.plots
        self._text = open(run.log_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed in close()
        _forget_steps_after(run.metrics_file, first_step)
        self._lines = open(run.metrics_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._bar = tqdm(
            total=config.steps, initial=first_step, unit="step", disable=not sys.stderr.isatty(), leave=False
        )
        self._tracker: Tracker = NoTracker()
        if config.logging.wandb != "disabled":
            self._tracker = WandbTracker(config, run, self.say)

    def note(self, sentence: str) -> None:
        """One sentence to log.txt alone."""
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}\n")

    def say(self, sentence: str) -> None:
        """One sentence to the terminal and log.txt."""
        self.note(sentence)
        self._bar.write(sentence, file=sys.stdout)
        sys.stdout.flush()

    def tick(self) -> None:
        """One step is done."""
        self._bar.update()

    def step(self, metrics: Mapping[str, Any]) -> None:
        """One logged step."""
        self._lines.write(json.dumps(metrics) + "\n")
        self.say(_as_line(metrics))
        self._tracker.log(metrics)

    def close(self) -> None:
        self._tracker.close()
        if self._plot:
            self._draw()
        self._bar.close()
        self._text.close()
        self._lines.close()

    def _draw(self) -> None:
        try:
            draw_training(self._run.metrics_file, self._run.plot_file)
        except Exception as error:  # a picture is never worth a run
            self.note(f"no plots: {type(error).__name__}: {error}")


class SilentLog:
    """Ranks above 0."""

    def note(self, sentence: str) -> None:
        return

    def say(self, sentence: str) -> None:
        return

    def tick(self) -> None:
        return

    def step(self, metrics: Mapping[str, Any]) -> None:
        return

    def close(self) -> None:
        return


Log = RunLog | SilentLog


def _forget_steps_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= step]
    atomic_write_text(path, "".join(kept))


def _as_line(metrics: Mapping[str, Any]) -> str:
    parts = [f"step {metrics['step']}"]
    for key, text in (
        ("loss", "loss {:.4f}"),
        ("balance_loss", "balance {:.4f}"),
        ("gradient_norm", "grad {:.3f}"),
        ("learning_rate", "lr {:.2e}"),
        ("tokens_per_second", "{:.0f} tok/s"),
        ("seconds", "{:.2f} s/step"),
        ("data_wait_share", "wait {:.0%}"),
        ("bubble_share", "bubble {:.0%}"),
        ("pack_fill", "fill {:.0%}"),
        ("epoch", "epoch {:.2f}"),
    ):
        if key in metrics:
            parts.append(text.format(metrics[key]))
    parts += [f"{task} {loss:.3f}" for task, loss in metrics.get("task_loss", {}).items()]
    if "skipped_steps" in metrics:
        parts.append(f"left out {as_ranges(metrics['skipped_steps'])}")
    return "  ".join(parts)


def expert_statistics(
    engine: TrainingEngine, decoder_layers: int, experts: int, passes: int
) -> dict[str, float]:
    """Balance loss and expert load since the last call (collective).

    Args:
        decoder_layers: of the whole model.
        passes: micro-batches since the last call, over all replicas.

    Returns:
        `balance_loss`: mean per micro-batch, summed over layers; `expert_load_max`: the busiest expert of any layer
        against the mean of its layer (1 = balanced); `expert_load_min` likewise; `idle_experts`: share of the experts
        that no token chose. None of them drops a token: there is no capacity. Empty without experts.
    """
    if decoder_layers == 0:
        return {}
    sums = torch.zeros(decoder_layers, experts + 1, dtype=torch.float64, device=engine.device)
    for layer in engine.decoder_layers():
        records = layer.take_records()
        if records is not None:
            sums[layer.number, 0] = records[0].double()
            sums[layer.number, 1:] = records[1].double()
    dist.all_reduce(sums)
    load = sums[:, 1:][sums[:, 1:].sum(-1) > 0]
    if len(load) == 0:
        return {}
    relative = load / load.mean(-1, keepdim=True)
    return {
        "balance_loss": float(sums[:, 0].sum()) / passes,
        "expert_load_max": float(relative.max()),
        "expert_load_min": float(relative.min()),
        "idle_experts": float((load == 0).double().mean()),
    }
