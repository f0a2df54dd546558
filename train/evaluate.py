"""Evaluation while a run trains: loss on held-out data, per dataset and task, and a small reading test.

What is special here:
- The held-out samples are the same every time: the first packs of each dataset, in the shapes of training and through
  the same engine. Training goes on bit for bit as if nothing had been evaluated.
- The loss of a dataset is the mean over its labelled tokens, whatever micro-batch or replica they were in.
- Nothing about an evaluation ends a run: data that cannot be used is said, and its dataset left out, on all ranks.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from data_engine.errors import ConfigError
from train.collective import decided_by_rank_0, raise_together
from train.data.damage import DamagedDataError
from train.data.kinds import KINDS
from train.data.micro_batch import MicroBatch
from train.deepspeed_engine import TrainingEngine
from train.meter import mean_losses
from train.metrics import Log
from train.prepare import Prepared
from train.reading import reading_test


class EvaluationError(RuntimeError):
    """A held-out dataset that cannot be used. The message is one sentence."""


class Evaluator:
    """Evaluates when it is due; `run` is collective."""

    def __init__(self, prepared: Prepared, engine: TrainingEngine, log: Log) -> None:
        self._prepared = prepared
        self._engine = engine
        self._held_out = held_out = prepared.held_out
        self._log = log
        self._settings = prepared.config.evaluate
        self._steps: list[int] = []
        if self._settings.every:
            counts = [min(loader.steps, self._settings.batches) for loader in held_out.loaders.values()]
            told = decided_by_rank_0(engine, lambda: " ".join(map(str, counts)))
            self._steps = [int(count) for count in told.split()]

    def is_due(self, step: int) -> bool:
        """Whether the model is to be evaluated after `step` steps."""
        every = self._settings.every
        return bool(every) and (step % every == 0 or step == self._prepared.config.steps)

    def run(self) -> dict[str, Any]:
        """Metrics of the model as it is now; complete on rank 0.

        `held_out_loss` by dataset, `held_out_task_loss` by task over all datasets, `reading_accuracy` by dataset (with
        `evaluate.read`), `evaluation_seconds`.
        """
        started = time.perf_counter()
        everything = torch.zeros(2, KINDS, dtype=torch.float64)
        losses: dict[str, float] = {}
        names = list(self._held_out.loaders) or [""] * len(self._steps)
        for name, steps in zip(names, self._steps, strict=True):
            try:
                sums = self._losses(name, steps)
            except EvaluationError as error:
                self._log.say(f"evaluation of {name} left out: {error}")
                continue
            everything += sums
            losses[name] = float(sums[0].sum() / sums[1].sum().clamp(min=1))
        metrics: dict[str, Any] = {"held_out_loss": losses}
        if self._held_out.loaders:
            kinds = {
                k: v for loader in self._held_out.loaders.values() for k, v in loader.costs.kinds().items()
            }
            metrics["held_out_task_loss"] = mean_losses(everything, kinds)["task_loss"]
        if self._settings.read:
            metrics["reading_accuracy"] = reading_test(
                self._prepared, self._engine, self._held_out.datasets, len(self._steps)
            )
        metrics["evaluation_seconds"] = time.perf_counter() - started
        self._log.say(as_sentence(metrics))
        return metrics

    def _losses(self, name: str, steps: int) -> Tensor:
        """float64 [2, KINDS]: summed losses and labelled tokens of each kind in one dataset (collective).

        Raises:
            EvaluationError: on all ranks alike.
        """
        loader = self._held_out.loaders.get(name)
        self._take()
        for step in range(steps):
            batches: list[MicroBatch] | None = None
            failure = ""
            try:
                batches = list(loader.step_batches(step)) if loader else None
            except (ConfigError, DamagedDataError, OSError) as error:
                failure = str(error)
            raise_together(self._engine, failure, EvaluationError)
            self._engine.evaluate_step(batches)
        sums = self._take()
        dist.all_reduce(sums)
        return sums.cpu()

    def _take(self) -> Tensor:
        """What the last stage has added up since the last call, zeros elsewhere."""
        layer = self._engine.loss_layer()
        found = layer.take_kinds(trained=False) if layer else None
        empty = torch.zeros(2, KINDS, dtype=torch.float64, device=self._engine.device)
        return empty if found is None else found


def as_sentence(metrics: dict[str, Any]) -> str:
    """One line for people."""
    losses = ", ".join(f"{name} {loss:.4f}" for name, loss in metrics["held_out_loss"].items())
    sentence = f"held-out loss: {losses or 'none'}"
    if metrics.get("reading_accuracy"):
        read = ", ".join(f"{name} {share:.1%}" for name, share in metrics["reading_accuracy"].items())
        sentence += f"; characters read: {read}"
    return f"{sentence} ({metrics['evaluation_seconds']:.1f} s)"
