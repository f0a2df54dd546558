"""From single steps to the numbers of a log line: means and rates since the line before."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch

from train.deepspeed_engine import StepResult, TrainingEngine
from train.metrics import expert_statistics
from train.prepare import Prepared


class StepMeter:
    """Collects steps on every rank; `report` is collective, and its numbers are complete on rank 0."""

    def __init__(self, prepared: Prepared, engine: TrainingEngine) -> None:
        self._prepared = prepared
        self._engine = engine
        self._losses: list[float] = []
        self._last: StepResult | None = None
        self._since = time.perf_counter()
        self._waited = 0.0

    def add(self, result: StepResult) -> None:
        self._losses.append(result.loss)
        self._last = result

    def report(self, step: int) -> dict[str, Any]:
        """Metrics after `step` steps.

        `loss`, `gradient_norm` and `learning_rate` are of the last step, `loss_mean`, `seconds` (per step),
        `tokens_per_second` and `data_wait_share` of all steps since the report before.
        """
        assert self._last is not None
        prepared, last, steps = self._prepared, self._last, len(self._losses)
        now = time.perf_counter()
        elapsed = now - self._since
        metrics: dict[str, Any] = {
            "step": step,
            "loss": last.loss,
            "loss_mean": sum(self._losses) / steps,
            "learning_rate": last.learning_rate,
            "gradient_norm": last.gradient_norm,
            "stage_gradient_norms": list(last.stage_gradient_norms),
            "seconds": elapsed / steps,
        }
        if prepared.loader:
            summaries = [prepared.loader.summary(number) for number in range(step - steps, step)]
            waited = prepared.loader.data_wait_seconds
            metrics |= {
                "tokens_per_second": sum(summary.tokens for summary in summaries) / elapsed,
                "samples": sum(summary.samples for summary in summaries),
                "data_wait_share": (waited - self._waited) / elapsed,
                "pack_fill": sum(summary.pack_fill for summary in summaries) / steps,
                "epoch": max(summaries[-1].epochs.values()),
                "epochs": summaries[-1].epochs,
            }
            self._waited = waited
        metrics["peak_memory_gib"] = _peak_memory_gib()
        decoders = [layer for layer in prepared.layers if layer.info.kind == "decoder"]
        passes = steps * prepared.config.micro_batches * prepared.world.data_parallel_size
        experts = prepared.model.language.n_routed_experts
        metrics |= expert_statistics(self._engine, len(decoders), experts, passes)
        self._losses, self._since = [], time.perf_counter()
        return metrics


def _peak_memory_gib() -> float:
    """Of this process: device memory, or resident memory where there is no device."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
