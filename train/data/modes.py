"""Which resolution mode a draw is seen in: exact shares per task and phase, computed and not stored.

What is special here:
- The paper trains all modes at once. So a task has *shares* of modes, and every use of a sample has a mode of
  its own: the same page comes back larger or smaller in a later epoch.
- Shares are exact, as those of datasets are: any 1,000 consecutive uses of a dataset take each of 1,000 slots once,
  and the modes own slots by largest remainder. A dataset with one task so shows each mode exactly as often as its
  share says, to one in a thousand; one with several tasks does so on average.
- Slots follow each other by a fixed stride near the golden section of 1,000, so the shares are nearly right in any
  short stretch as well. Chance is not needed here: which sample a use is has been shuffled already.
- The slot belongs to the use and the mode to the slot, so new shares from some window on change nothing before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from model.views import ResolutionMode, resolution_mode
from train.data.mixture import largest_remainder
from train.data.order import derive_key

SLOTS = 1000
"""Uses of a dataset over which the shares of modes are exact: shares in per cent and per mille come out even."""
STRIDE = 619
"""From one use to the next, in slots; shares no factor with SLOTS, so that all of them are visited."""
DEFAULT_MODE = "default"


@dataclass(frozen=True)
class ModeShares:
    """The modes of one task and how many of every SLOTS uses each of them gets."""

    modes: tuple[ResolutionMode, ...]
    slots: tuple[int, ...]

    @classmethod
    def of(cls, choice: str | ResolutionMode | Mapping[str, float] | ModeShares) -> ModeShares:
        """From one mode, or from weights of modes by name in any unit.

        Raises:
            ValueError: an unknown mode, or weights that cannot be shares; in one sentence.
        """
        if isinstance(choice, ModeShares):
            return choice
        if isinstance(choice, ResolutionMode):
            return cls((choice,), (SLOTS,))
        if isinstance(choice, str):
            return cls((resolution_mode(choice),), (SLOTS,))
        if not isinstance(choice, Mapping):
            raise ValueError(
                f"{choice!r} is neither a mode nor weights of modes, such as {{tiny: 1, base: 3}}."
            )
        for name, weight in choice.items():
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not number or not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of mode {name} is {weight}; it must be a number, 0 or more.")
        positive = {name: float(weight) for name, weight in choice.items() if weight > 0}
        if not positive:
            raise ValueError("no mode has a positive weight; one must.")
        modes = tuple(resolution_mode(name) for name in positive)
        slots = tuple(largest_remainder(list(positive.values()), SLOTS))
        for mode, count in zip(modes, slots, strict=True):
            if count == 0:
                raise ValueError(
                    f"the weight {positive[mode.name]:g} of mode {mode.name} is less than one use in {SLOTS}; "
                    "raise it or set it to 0."
                )
        return cls(modes, slots)


ModeChoices = Mapping[str, ResolutionMode | ModeShares]
"""Task -> mode or shares of modes; the key "default" serves all other tasks."""


def every_mode(choices: ModeChoices) -> Iterator[tuple[str, ResolutionMode]]:
    """(task, mode) of all modes that may occur. Raises ConfigError when some task has none."""
    if DEFAULT_MODE not in choices:
        raise ConfigError(
            f"modes={sorted(choices)} lacks the key {DEFAULT_MODE}, which serves the tasks not named."
        )
    for task, choice in choices.items():
        for mode in ModeShares.of(choice).modes:
            yield task, mode


class ModePlan:
    """Phase, task and slot -> mode. `modes` numbers all modes that occur.

    Args:
        choices: what holds where a phase says nothing.
        phases: per phase of the mixture, choices that replace `choices` there; empty: those of the run.

    Raises:
        ConfigError: choices without the key "default".
    """

    def __init__(self, choices: ModeChoices, phases: Sequence[ModeChoices] = ()) -> None:
        self.phases: list[ModeChoices] = [phase or choices for phase in (phases or ({},))]
        distinct = {mode for phase in self.phases for _, mode in every_mode(phase)}
        self.modes = sorted(distinct, key=lambda mode: (mode.base_size, mode.image_size, mode.name))
        self._numbers = {mode: number for number, mode in enumerate(self.modes)}

    def of(self, phase: int, task: str, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers in `modes`, one for each slot."""
        choices = self.phases[phase]
        shares = ModeShares.of(choices.get(task) or choices[DEFAULT_MODE])
        numbers = np.array([self._numbers[mode] for mode in shares.modes], dtype=np.int64)
        return numbers[np.searchsorted(np.cumsum(shares.slots), slots, side="right")]

    def description(self) -> list[dict[str, Any]]:
        """JSON, one entry per phase: task -> every mode as it is cut, with its slots."""
        return [
            {
                task: [
                    {**asdict(mode), "slots": slots}
                    for mode, slots in zip(shares.modes, shares.slots, strict=True)
                ]
                for task, shares in sorted((task, ModeShares.of(choice)) for task, choice in phase.items())
            }
            for phase in self.phases
        ]


def mode_slots(seed: int, name: str, uses: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slot in range(SLOTS) of uses of a dataset (its draws counted over the whole run); each slot once per SLOTS."""
    return (uses % SLOTS * STRIDE + derive_key(seed, "modes", name) % SLOTS) % SLOTS
