"""The guard before the optimizer: steps that must not be taken, and the record of those that were left out.

    not finite      the loss or a gradient is NaN or infinite: the run ends, always
    spike           the loss or the gradient norm is above `guard.spike_factor` times its running median
    skip_steps      ranges of steps that the user names; their data is passed over without being computed

What is special here:
- Every rank judges by the same numbers, gathered and added up in the same order, so all of them decide alike.
- Median, and which steps were left out, belong to the state of the run: a resumed run decides as an uninterrupted one.
- AdamW has taken fewer steps than the run when some were left out; its bias correction counts its own.
- A spike that was left out does not count for the median, one that was only warned of does.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.run_settings import SKIP, STOP, GuardSettings


class BrokenStepError(RuntimeError):
    """A step that must not change the parameters. The message is one sentence for the user."""


class NonFiniteError(BrokenStepError):
    """A loss or gradient is NaN or infinite; parameters and optimizer are as before the step.

    Args:
        micro_batches: (data-parallel rank, micro-batch) in which it was seen first, as far as known.
    """

    def __init__(
        self, step: int, what: str, micro_batches: Sequence[tuple[int, int]] = (), samples: str = ""
    ) -> None:
        super().__init__(
            f"step {step}: {what}{samples}; nothing was changed by this step, and the last checkpoint is good: lower "
            f"optimizer.learning_rate, or leave the step out with skip_steps=[[{step},{step}]]."
        )
        self.step = step
        self.what = what
        self.micro_batches = tuple(micro_batches)

    def with_samples(self, samples: str) -> NonFiniteError:
        """The same with the samples named."""
        return NonFiniteError(self.step, self.what, self.micro_batches, samples)


class SpikeError(BrokenStepError):
    """A spike, and the run was told to stop; parameters and optimizer are as before the step."""


@dataclass(frozen=True)
class StageReport:
    """What one process knows of a step before the optimizer."""

    squared_norm: float
    """Of its share of its stage's gradients."""
    loss: float
    """Of its pipeline, on the last stage; 0 elsewhere."""
    broken_micro_batch: int
    """First micro-batch whose output was not finite, -1 for none."""

    @classmethod
    def of(cls, row: Sequence[float]) -> StageReport:
        return cls(row[0], row[1], int(row[2]))


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
        return sum(rank.loss for rank in self.ranks[-self.replicas :]) / self.replicas

    @property
    def stage_norms(self) -> tuple[float, ...]:
        """Gradient norm of every stage."""
        return tuple(math.sqrt(sum(rank.squared_norm for rank in stage)) for stage in self._by_stage())

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
        raise NonFiniteError(step, what, micro_batches)

    def _by_stage(self) -> list[tuple[StageReport, ...]]:
        return [self.ranks[i : i + self.replicas] for i in range(0, len(self.ranks), self.replicas)]


class Guard:
    """Decides whether a step may change the parameters.

    Steps are counted as in the log: the first one is 1.
    """

    def __init__(self, settings: GuardSettings, skip_steps: Sequence[Sequence[int]] = ()) -> None:
        self._settings = settings
        self._ranges = [(first, last) for first, last in skip_steps]
        self._losses: deque[float] = deque(maxlen=settings.window)
        self._norms: deque[float] = deque(maxlen=settings.window)
        self.skipped: list[int] = []
        """Steps that changed nothing, in order."""
        self.spikes: list[str] = []
        """Sentences about spikes since the last `take_spikes`."""

    def passes_over(self, step: int) -> bool:
        """Whether the user wants this step left out, and if so, record it."""
        if any(first <= step <= last for first, last in self._ranges):
            self.skipped.append(step)
            return True
        return False

    def allows(self, step: int, loss: float, norm: float) -> bool:
        """Whether the optimizer may take this step.

        Raises:
            SpikeError: it is a spike and `guard.action=stop`, or too many steps in a row were left out.
        """
        settings = self._settings
        spike = self._spike(loss, norm)
        if spike and settings.action == STOP:
            raise SpikeError(
                f"step {step}: {spike}, and guard.action={STOP}; nothing was changed by this step: set guard.action="
                f"{SKIP}, or leave it out with skip_steps=[[{step},{step}]]."
            )
        if spike and settings.action == SKIP:
            self.skipped.append(step)
            self.spikes.append(f"step {step} is left out: {spike}")
            self._check_patience(step)
            return False
        if spike:
            self.spikes.append(f"step {step} is a spike: {spike}")
        self._losses.append(loss)
        self._norms.append(norm)
        return True

    def take_spikes(self) -> list[str]:
        """What was found since the last call, a sentence each."""
        spikes, self.spikes = self.spikes, []
        return spikes

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint."""
        return {"losses": list(self._losses), "norms": list(self._norms), "skipped": self.skipped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self._losses.extend(state.get("losses", ()))
        self._norms.extend(state.get("norms", ()))
        self.skipped = list(state.get("skipped", ()))

    def _spike(self, loss: float, norm: float) -> str:
        """What is wrong with this step, or nothing."""
        factor = self._settings.spike_factor
        if not factor or len(self._losses) < self._settings.window:
            return ""
        for name, value, past in (("loss", loss, self._losses), ("gradient norm", norm, self._norms)):
            median = statistics.median(past)
            if value > factor * median:
                return f"its {name} {value:.4g} is above {factor:g} × {median:.4g}, the median of {len(past)} steps"
        return ""

    def _check_patience(self, step: int) -> None:
        longest = self._settings.longest
        if self.skipped[-longest:] == list(range(step - longest + 1, step + 1)):
            raise SpikeError(
                f"step {step}: {longest} steps in a row were left out as spikes (guard.longest); this is no spike but "
                "a new level: go back to an earlier checkpoint, or raise guard.spike_factor."
            )
