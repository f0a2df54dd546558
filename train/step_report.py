"""What all ranks know of a step before the optimizer takes it, and the errors that end a run there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class BrokenStepError(RuntimeError):
    """A step that must not change the parameters; they and the optimizer are as before it. The message is one sentence
    for the user.

    Args:
        step: counted from 1.
        what: what is wrong, and where it was seen.
        advice: what to do.
        micro_batches: (data-parallel rank, micro-batch) in which it was seen first, as far as known.
        samples: what these were made of, see `train.blame`.
    """

    def __init__(
        self,
        step: int,
        what: str,
        advice: str,
        micro_batches: Sequence[tuple[int, int]] = (),
        samples: str = "",
    ) -> None:
        super().__init__(f"step {step}: {what}{samples}; {advice}")
        self.step = step
        self.what = what
        self.advice = advice
        self.micro_batches = tuple(micro_batches)

    def with_samples(self, samples: str) -> Self:
        """The same with the samples named."""
        return type(self)(self.step, self.what, self.advice, self.micro_batches, samples)


class NonFiniteError(BrokenStepError):
    """A loss or gradient is NaN or infinite."""


class SpikeError(BrokenStepError):
    """A spike, and the run was told to stop, or too many in a row."""


@dataclass(frozen=True)
class StageReport:
    """What one process knows of a step before the optimizer."""

    loss: float
    """Of its pipeline, on the last stage; 0 elsewhere."""
    broken_micro_batch: int
    """First micro-batch whose output was not finite, -1 for none."""
    largest_micro_batch: int
    """Micro-batch with the largest share of the loss, on the last stage; -1 elsewhere."""
    largest_loss: float
    """That share."""
    squared_norms: tuple[float, ...]
    """By part of the model (`train.gradient_norms`), of its share of its stage's gradients."""

    @classmethod
    def of(cls, row: Sequence[float]) -> StageReport:
        """From numbers in the order of the fields."""
        return cls(row[0], int(row[1]), int(row[2]), row[3], tuple(row[4:]))

    @property
    def squared_norm(self) -> float:
        return sum(self.squared_norms)


@dataclass(frozen=True)
class StepReport:
    """What all processes know of a step before the optimizer, laid out stage by stage; the same on every rank."""

    ranks: tuple[StageReport, ...]
    stages: int

    @property
    def replicas(self) -> int:
        return len(self.ranks) // self.stages

    @property
    def loss(self) -> float:
        """Mean over the labelled tokens of the step."""
        return sum(rank.loss for rank in self._last_stage) / self.replicas

    @property
    def largest_micro_batch(self) -> tuple[int, int]:
        """(data-parallel rank, micro-batch) with the largest share of the loss."""
        replica, found = max(enumerate(self._last_stage), key=lambda pair: pair[1].largest_loss)
        return replica, found.largest_micro_batch

    @property
    def stage_norms(self) -> tuple[float, ...]:
        """Gradient norm of every stage."""
        return tuple(math.sqrt(sum(rank.squared_norm for rank in stage)) for stage in self._by_stage())

    @property
    def part_norms(self) -> tuple[float, ...]:
        """Gradient norm of every part of the model, in the order of the reports."""
        return tuple(
            math.sqrt(sum(part)) for part in zip(*(r.squared_norms for r in self.ranks), strict=True)
        )

    @property
    def norm(self) -> float:
        """Gradient norm over all stages, before clipping."""
        return math.hypot(*self.stage_norms)

    def check_finite(self, step: int) -> None:
        """Raises NonFiniteError, which says where it was seen first as far as that is known."""
        broken = [
            number
            for number, stage in enumerate(self._by_stage())
            if not all(math.isfinite(rank.squared_norm) for rank in stage)
        ]
        loss_is_fine = math.isfinite(self.loss)
        if loss_is_fine and not broken:
            return
        what = "the loss is finite but a gradient is not" if loss_is_fine else "the loss is not finite"
        micro_batches: list[tuple[int, int]] = []
        for number, stage in enumerate(self._by_stage()):
            found = [
                (r, rank.broken_micro_batch) for r, rank in enumerate(stage) if rank.broken_micro_batch >= 0
            ]
            if found:
                micro_batches = found
                places = ", ".join(
                    f"micro-batch {batch} of data-parallel rank {rank}" for rank, batch in found
                )
                what += f", first in the output of stage {number} ({places})"
                break
        if broken:
            what += f"; gradients of stage {', '.join(map(str, broken))} are not finite"
        advice = (
            "nothing was changed by this step, and the last checkpoint is good: lower optimizer.learning_rate, or "
            f"leave the step out with skip_steps=[[{step},{step}]]."
        )
        raise NonFiniteError(step, what, advice, micro_batches)

    def _by_stage(self) -> list[tuple[StageReport, ...]]:
        return [self.ranks[i : i + self.replicas] for i in range(0, len(self.ranks), self.replicas)]

    @property
    def _last_stage(self) -> tuple[StageReport, ...]:
        return self.ranks[-self.replicas :]
