"""The guard before the optimizer: steps that must not be taken, and the record of those that were left out.

    not finite      the loss or a gradient is NaN or infinite: the run ends, always (`StepReport.check_finite`)
    spike           the loss or the gradient norm is above `guard.spike_factor` times its running median
    skip_steps      ranges of steps that the user names; their data is passed over without being computed

What is special here:
- Every rank judges by the same numbers, gathered and added up in the same order, so all of them decide alike.
- Median, and which steps were left out, belong to the state of the run: a resumed run decides as an uninterrupted one.
- AdamW has taken fewer steps than the run when some were left out; its bias correction counts its own.
- A spike that was left out does not count for the median, one that was only warned of does.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.run_settings import SKIP, STOP, GuardSettings
from train.step_report import SpikeError, StepReport


@dataclass(frozen=True)
class Notice:
    """What the guard has to say of a step that did not end the run."""

    step: int
    what: str
    """A sentence without its full stop."""
    micro_batches: tuple[tuple[int, int], ...] | None
    """(data-parallel rank, micro-batch) in which it was seen, none if not known; None: there is nothing to be seen."""


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
        self._notices: list[Notice] = []
        self._announced: set[tuple[int, int]] = set()

    def passes_over(self, step: int) -> bool:
        """Whether the user wants this step left out, and if so, record it."""
        found = next((found for found in self._ranges if found[0] <= step <= found[1]), None)
        if found is None:
            return False
        self.skipped.append(step)
        if found not in self._announced:
            self._announced.add(found)
            whole = as_ranges(range(found[0], found[1] + 1))
            self._notices.append(Notice(step, f"passing over step {whole}, as skip_steps says", None))
        return True

    def allows(self, step: int, report: StepReport) -> bool:
        """Whether the optimizer may take this step.

        Raises:
            SpikeError: it is a spike and `guard.action=stop`, or too many steps in a row were left out.
        """
        settings = self._settings
        spike, micro_batches = self._spike(report)
        if spike and settings.action == STOP:
            raise SpikeError(
                step,
                spike,
                f"nothing was changed by this step, for guard.action={STOP}: set guard.action={SKIP}, or leave it out "
                f"with skip_steps=[[{step},{step}]].",
                micro_batches,
            )
        if spike and settings.action == SKIP:
            self.skipped.append(step)
            self._check_patience(step, micro_batches)
            self._notices.append(Notice(step, f"step {step} is left out: {spike}", micro_batches))
            return False
        if spike:
            self._notices.append(Notice(step, f"step {step} is a spike: {spike}", micro_batches))
        self._losses.append(report.loss)
        self._norms.append(report.norm)
        return True

    def take_notices(self) -> list[Notice]:
        """What was found since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint."""
        return {"losses": list(self._losses), "norms": list(self._norms), "skipped": list(self.skipped)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self._losses.extend(state.get("losses", ()))
        self._norms.extend(state.get("norms", ()))
        self.skipped = list(state.get("skipped", ()))

    def _spike(self, report: StepReport) -> tuple[str, tuple[tuple[int, int], ...]]:
        """What is wrong with this step, or nothing, and the micro-batches in which it was seen."""
        factor, window = self._settings.spike_factor, self._settings.window
        if not factor or len(self._losses) < window:
            return "", ()
        stage, largest = max(enumerate(report.stage_norms), key=lambda pair: pair[1])
        above = f"is above {factor:g} ×"
        median = statistics.median(self._losses)
        if report.loss > factor * median:
            replica, number = report.largest_micro_batch
            what = (
                f"its loss {report.loss:.4g} {above} {median:.4g}, the median of {window} steps, the largest share "
                f"of it in micro-batch {number} of data-parallel rank {replica}; its gradient norm is "
                f"{report.norm:.4g}, that of stage {stage} alone {largest:.4g}"
            )
            return what, (report.largest_micro_batch,)
        median = statistics.median(self._norms)
        if report.norm > factor * median:
            what = (
                f"its gradient norm {report.norm:.4g} {above} {median:.4g}, the median of {window} steps, that of "
                f"stage {stage} alone is {largest:.4g}"
            )
            return what, ()  # gradients are those of all micro-batches together
        return "", ()

    def _check_patience(self, step: int, micro_batches: Sequence[tuple[int, int]]) -> None:
        longest = self._settings.longest
        if self.skipped[-longest:] == list(range(step - longest + 1, step + 1)):
            raise SpikeError(
                step,
                f"{longest} steps in a row were left out as spikes (guard.longest), this is the last of them",
                "this is no spike but a new level: go back to an earlier checkpoint, or raise guard.spike_factor.",
                micro_batches,
            )


def as_ranges(steps: Sequence[int]) -> str:
    """Rising numbers for people: [4, 5, 6, 9] is `4-6, 9`."""
    ranges: list[tuple[int, int]] = []
    for step in steps:
        if ranges and step == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], step)
        else:
            ranges.append((step, step))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
