"""The mixture: phases of weights, and from them the exact number of draws of every dataset in every window.

What is special here:
- The unit of everything is the *window*: a fixed number of consecutive draws (default 4,096). One window is
  drawn, packed and shuffled as a whole, and has one set of weights.
- A phase ends at a number of *samples drawn*, rounded up to a whole window, not at a step. How many draws a
  step consumes depends on how well they pack; how many draws a window holds depends on nothing. So which phase
  a window is in, and how often each dataset was used before it, is arithmetic, for any window, in any order.
- Quotas are exact: over a cycle of 64 windows each dataset gets its share by largest remainder (1 in 262,144
  draws at the default window), and in each window that share's floor or ceiling. Nothing is drawn by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError

CYCLE = 64  # windows after which the quotas repeat; a power of two
END = -1


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of weights."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """Name of a dataset or group -> share of the draws, in any unit; empty: every dataset by its size."""
    until_sample: int = END
    """First sample (counted over the whole run and all ranks) outside this phase; -1 in the last phase."""
    modes: Mapping[str, Any] = field(default_factory=dict)
    """Task -> resolution mode or shares of modes in this phase (`modes.ModeChoices`); empty: those of the run."""


@dataclass(frozen=True)
class Mixture:
    """What the run draws from. Raises ConfigError, in one sentence, when the phases make no sense."""

    phases: tuple[Phase, ...] = (Phase(),)
    window: int = 4096
    """Draws that are shuffled and packed together. Phase ends are rounded up to multiples of it."""
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Group -> its datasets and their shares of what the group gets, in any unit."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"mixture: window={self.window} must be at least 1 sample.")
        if not self.phases:
            raise ConfigError("mixture: give at least one phase.")
        ends = [phase.until_sample for phase in self.phases]
        if ends[-1] != END:
            raise ConfigError(
                f"mixture: the last phase ends at sample {ends[-1]}; leave its until_sample out, it lasts to the end."
            )
        if any(end < 1 for end in ends[:-1]):
            raise ConfigError(
                f"mixture: until_sample of the phases is {ends}; all but the last must be positive."
            )
        windows = [self._windows(end) for end in ends[:-1]]
        for number, (left, right) in enumerate(zip([0, *windows], windows, strict=False)):
            if left >= right:
                raise ConfigError(
                    f"mixture: phase {number} ends at sample {ends[number]} and holds no whole window of "
                    f"{self.window} samples; let it end later or lower the window."
                )
        for number, phase in enumerate(self.phases):
            if phase.weights:
                _check_weights(phase.weights, f"phase {number}")
        for group, members in self.groups.items():
            if not isinstance(members, Mapping):
                raise ConfigError(
                    f"mixture: group {group} is {members!r}; give its datasets and shares, such as {{pages: 3}}."
                )
            _check_weights(members, f"group {group}")

    @classmethod
    def of(cls, weights: Mapping[str, float], window: int = 4096) -> Mixture:
        """One phase with these weights from the beginning to the end."""
        return cls((Phase(weights),), window)

    def _windows(self, samples: int) -> int:
        return -(-samples // self.window)

    def first_windows(self) -> list[int]:
        """For each phase, its first window."""
        return [0, *(self._windows(phase.until_sample) for phase in self.phases[:-1])]


def _check_weights(weights: Mapping[str, float], where: str) -> None:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ConfigError(f"mixture: the weight of {name} in {where} is {weight}; it must be 0 or more.")
    if not any(weights.values()):
        raise ConfigError(f"mixture: all weights of {where} are 0; one must be positive.")


def _exact(weight: float | Fraction) -> Fraction:
    """The decimal that a weight is written as: 0.1 is one tenth."""
    return weight if isinstance(weight, Fraction) else Fraction(repr(float(weight)))


def largest_remainder(weights: Sequence[float | Fraction], total: int) -> list[int]:
    """Split `total` into whole numbers in proportion to `weights`; the largest fractions get what is left.

    Exact: weights count as the decimals they are written as (0.1 is one tenth). Ties go to the earlier one.
    """
    shares = [_exact(weight) for weight in weights]
    exact = [share * total / sum(shares) for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def cycle_quotas(weights: Sequence[float | Fraction], window: int) -> NDArray[np.int64]:
    """Draws of each source in each window of a cycle: [CYCLE, sources], every row sums to `window`.

    Column sums are the largest-remainder split of CYCLE * window draws; entries of a column differ by at most
    one. The odd draws are laid along a line and wrapped around the windows, which fills each window equally and
    gives no source two of them in one window; windows are visited in bit-reversed order to spread them evenly.
    """
    totals = np.array(largest_remainder(weights, CYCLE * window), dtype=np.int64)
    quotas = np.tile(totals // CYCLE, (CYCLE, 1))
    odd = np.repeat(np.arange(len(totals)), totals % CYCLE)
    bits = CYCLE.bit_length() - 1
    spread = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(CYCLE)])
    quotas[spread[np.arange(len(odd)) % CYCLE], odd] += 1
    return quotas


class Quotas:
    """A mixture over actual datasets. `names` is the fixed order of all arrays with one entry per dataset.

    Args:
        sizes: samples of every dataset, by name; those that no phase uses may be among them.

    Raises:
        ConfigError: a weight names no dataset or group, a dataset has two weights or is empty, or a positive weight
            is so small that it would never be drawn.
    """

    def __init__(self, mixture: Mixture, sizes: Mapping[str, int]) -> None:
        self.mixture = mixture
        self.names = sorted(sizes)
        self._starts = mixture.first_windows()
        self._history: list[tuple[int, dict[str, float]]] = []
        self._cycles: list[NDArray[np.int64]] = []  # per phase [CYCLE + 1, sources]: draws before a window
        self._before: list[NDArray[np.int64]] = []  # per phase [sources]: draws before the phase
        before = np.zeros(len(self.names), dtype=np.int64)
        for number, phase in enumerate(mixture.phases):
            weights = self._weights(number, phase, sizes)
            positive = {
                name: float(weight) for name, weight in zip(self.names, weights, strict=True) if weight > 0
            }
            self._history.append((self._starts[number], positive))
            quotas = cycle_quotas(weights, mixture.window)
            self._cycles.append(np.concatenate([np.zeros_like(quotas[:1]), np.cumsum(quotas, axis=0)]))
            self._before.append(before)
            if number + 1 < len(self._starts):
                before = self.uses_before(self._starts[number + 1], number)

    def _weights(self, number: int, phase: Phase, sizes: Mapping[str, int]) -> list[Fraction]:
        weights = self._without_groups(number, phase.weights or sizes)
        for name, weight in weights.items():
            if weight > 0 and sizes[name] == 0:
                raise ConfigError(f"mixture: dataset {name} has a weight in phase {number} but no samples.")
        ordered = [weights.get(name, Fraction(0)) for name in self.names]
        draws = largest_remainder(ordered, CYCLE * self.mixture.window)
        for name, weight, count in zip(self.names, ordered, draws, strict=True):
            if weight > 0 and count == 0:
                raise ConfigError(
                    f"mixture: the weight {float(weight):g} of {name} in phase {number} is less than one draw in "
                    f"{CYCLE * self.mixture.window}; raise it, or the window, or set it to 0."
                )
        return ordered

    def _without_groups(self, number: int, weights: Mapping[str, float]) -> dict[str, Fraction]:
        """Weights of datasets: a group's weight goes to its members by their shares."""
        groups = self.mixture.groups
        known = ", ".join(self.names) + (f" and the groups {', '.join(groups)}" if groups else "")
        flat: dict[str, Fraction] = {}
        for name, weight in weights.items():
            if name in groups and name in self.names:
                raise ConfigError(f"mixture: {name} is a group and a dataset; give the group another name.")
            members = groups.get(name, {name: 1.0})
            whole = sum(map(_exact, members.values()))
            for member, share in members.items():
                if member not in self.names:
                    where = f"group {name} names" if name in groups else f"phase {number} has a weight for"
                    raise ConfigError(f"mixture: {where} {member}, but the datasets are {known}.")
                if member in flat:
                    raise ConfigError(
                        f"mixture: dataset {member} has two weights in phase {number}, one of its own or of another "
                        f"group and one of {name}; leave one out."
                    )
                flat[member] = _exact(weight) * _exact(share) / whole
        return flat

    def phase_of(self, window: int) -> int:
        """The phase that a window is in."""
        return int(np.searchsorted(self._starts, window, side="right")) - 1

    def history(self) -> list[dict[str, Any]]:
        """JSON: first window and positive weights of every phase.

        Two mixtures draw the same samples up to the first window in which their histories differ. So a run that has
        begun may change the weights of windows to come, and nothing else.
        """
        return [{"first_window": first, "weights": weights} for first, weights in self._history]

    def uses_before(self, window: int, phase: int | None = None) -> NDArray[np.int64]:
        """Draws of each dataset in all windows before this one; [sources]."""
        phase = self.phase_of(window) if phase is None else phase
        cycles, rest = divmod(window - self._starts[phase], CYCLE)
        table = self._cycles[phase]
        return self._before[phase] + cycles * table[CYCLE] + table[rest]

    def of(self, window: int) -> NDArray[np.int64]:
        """Draws of each dataset in one window; [sources], their sum is the window."""
        phase = self.phase_of(window)
        rest = (window - self._starts[phase]) % CYCLE
        table = self._cycles[phase]
        return table[rest + 1] - table[rest]
