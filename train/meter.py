"""From single steps to the numbers of a log line: means and rates since the line before."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
import torch.distributed as dist

from train.clock import COMPUTE, KINDS, LOAD, REDUCE, WAIT
from train.collective import gather
from train.data.kinds import KINDS as LOSS_KINDS
from train.deepspeed_engine import StepResult, TrainingEngine
from train.guard import Guard
from train.metrics import expert_statistics
from train.prepare import Prepared
from train.saver import Saver


class StepMeter:
    """Collects steps on every rank; `report` is collective, and its numbers are complete on rank 0."""

    def __init__(self, prepared: Prepared, engine: TrainingEngine, guard: Guard, saver: Saver) -> None:
        self._prepared = prepared
        self._engine = engine
        self._guard = guard
        self._saver = saver
        self._results: dict[int, StepResult] = {}
        self._since = time.perf_counter()
        self._waited = 0.0
        self._saved = 0.0
        self._reported = len(guard.skipped)

    def add(self, step: int, result: StepResult) -> None:
        """One step is done; counted from 0."""
        self._results[step] = result

    def leave_out(self) -> None:
        """What was done since the last report does not count as training."""
        self._since = time.perf_counter()
        self._engine.clock.take()

    def report(self, step: int) -> dict[str, Any]:
        """Metrics after `step` steps.

        `loss`, `gradient_norm`, `stage_gradient_norms`, `part_gradient_norms` (by part of the model) and
        `learning_rate` are of the last step that was computed, everything else of all steps since the report before:
        `loss_mean`, `task_loss`, `mode_loss` (means over labelled tokens), `seconds` (per step), `tokens_per_second`,
        where the time went (see `_time_split`), `skipped_steps` (those that changed nothing). Only the step, the time
        and those when none was computed.
        """
        now = time.perf_counter()
        elapsed, results = now - self._since, self._results
        self._since, self._results = now, {}
        metrics: dict[str, Any] = {"step": step, "seconds": elapsed / max(1, len(results))}
        skipped = self._guard.skipped[self._reported :]
        self._reported = len(self._guard.skipped)
        if skipped:
            metrics["skipped_steps"] = skipped
        if not results:
            return metrics
        last = results[max(results)]
        metrics |= {
            "loss": last.loss,
            "loss_mean": sum(result.loss for result in results.values()) / len(results),
            "learning_rate": last.learning_rate,
            "gradient_norm": last.gradient_norm,
            "stage_gradient_norms": list(last.stage_gradient_norms),
            "part_gradient_norms": last.part_gradient_norms,
        }
        metrics |= self._data(sorted(results), elapsed)
        metrics |= self._time_split(len(results), elapsed)
        metrics |= self._losses_by_kind()
        decoders = [layer for layer in self._prepared.layers if layer.info.kind == "decoder"]
        passes = len(results) * self._prepared.config.micro_batches * self._prepared.world.data_parallel_size
        experts = self._prepared.model.language.n_routed_experts
        return metrics | expert_statistics(self._engine, len(decoders), experts, passes)

    def _data(self, steps: list[int], elapsed: float) -> dict[str, Any]:
        """What the steps held; on the ranks that read data."""
        loader = self._prepared.loader
        if loader is None:
            return {}
        summaries = [loader.plan.summary(number) for number in steps]
        return {
            "tokens_per_second": sum(summary.tokens for summary in summaries) / elapsed,
            "samples": sum(summary.samples for summary in summaries),
            "pack_fill": sum(summary.pack_fill for summary in summaries) / len(steps),
            "epoch": max(summaries[-1].epochs.values()),
            "epochs": summaries[-1].epochs,
        }

    def _time_split(self, steps: int, elapsed: float) -> dict[str, Any]:
        """Shares of the elapsed time, and the pipeline's bubble.

        `compute_share`, `wait_share` (for neighbours) and `update_share` (reducing gradients, optimizer) are means over
        all processes; `data_wait_share` is of the process that waited longest for data; `save_share` is what rank 0
        stood still for to save, without what is written while training goes on.
        `bubble_share` is the share of a step's passes and messages in which the busiest stage does not compute, beside
        `bubble_1f1b` = (p - 1) / (m + p - 1), what p equal stages with m micro-batches lose. Where several processes
        share a core, it also holds what they take from each other.
        """
        seconds = self._engine.clock.take()
        loader = self._prepared.loader
        waited = loader.data_wait_seconds if loader else 0.0
        saved = self._saver.seconds
        mine = [
            *(seconds[kind] for kind in KINDS),
            waited - self._waited,
            saved - self._saved,
            _peak_memory(),
        ]
        self._waited, self._saved = waited, saved
        table = gather(self._engine, torch.tensor(mine, dtype=torch.float64))
        stages = self._prepared.world.pipeline_stages
        column = {kind: table[:, number] for number, kind in enumerate((*KINDS, "data", "save", "memory"))}
        by_stage = {kind: values.view(stages, -1).amax(1) for kind, values in column.items()}
        passes = column[COMPUTE] + column[WAIT] + column[LOAD]
        micro_batches = self._prepared.config.micro_batches
        split: dict[str, Any] = {
            "compute_share": float(column[COMPUTE].mean()) / elapsed,
            "wait_share": float(column[WAIT].mean()) / elapsed,
            "update_share": float(column[REDUCE].mean()) / elapsed,
            "data_wait_share": float(column["data"].max()) / elapsed,
            "save_share": float(column["save"][0]) / elapsed,
            "stage_compute_seconds": [float(value) / steps for value in by_stage[COMPUTE]],
            "peak_memory_gib": float(column["memory"].max()),
            "stage_peak_memory_gib": by_stage["memory"].tolist(),
        }
        if stages > 1:
            split["bubble_share"] = float(1 - by_stage[COMPUTE].max() / passes.max())
            split["bubble_1f1b"] = (stages - 1) / (micro_batches + stages - 1)
        return split

    def _losses_by_kind(self) -> dict[str, Any]:
        """Mean loss and labelled tokens of each task, and mean loss in each resolution mode."""
        layer = self._engine.loss_layer()
        mine = layer.take_kinds() if layer else None
        if mine is None:
            mine = torch.zeros(2, LOSS_KINDS, dtype=torch.float64, device=self._engine.device)
        dist.all_reduce(mine)
        loader = self._prepared.loader
        return {} if loader is None else mean_losses(mine.cpu(), loader.costs.kinds())


def mean_losses(sums: torch.Tensor, names: dict[int, tuple[str, str]]) -> dict[str, Any]:
    """`task_loss`, `task_tokens` and `mode_loss` from float64 [2, kinds] of summed losses and counts."""
    tasks: dict[str, list[float]] = {}
    modes: dict[str, list[float]] = {}
    for number in sums[1].nonzero()[:, 0].tolist():
        loss, count = sums[:, number].tolist()
        task, mode = names.get(number, ("?", "?"))
        for table, name in ((tasks, task), (modes, mode)):
            entry = table.setdefault(name, [0.0, 0.0])
            entry[0] += loss
            entry[1] += count
    return {
        "task_loss": {name: loss / count for name, (loss, count) in sorted(tasks.items())},
        "task_tokens": {name: int(count) for name, (_, count) in sorted(tasks.items())},
        "mode_loss": {name: loss / count for name, (loss, count) in sorted(modes.items())},
    }


def _peak_memory() -> float:
    """GiB of this process: device memory, or resident memory where there is no device."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
