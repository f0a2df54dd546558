"""Sums over windows: what the data report counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.data.costs import NEVER_FITS
from train.data.packing import BUDGETS, PATCHES, TOKENS
from train.data.stream import WindowPlan

REASONS = (*BUDGETS, "unreadable")
"""Why a sample is dropped."""


class Tally:
    """Sums over windows; counts are floats, so that windows that were measured can stand for others.

    Args:
        datasets: how many there are.
        modes: how many resolution modes there are.
        capacity: the budgets of a pack.
    """

    def __init__(self, datasets: int, modes: int, capacity: tuple[int, int, int, int]) -> None:
        self._capacity = capacity
        self.packs = 0.0
        self.budgets = np.zeros(len(BUDGETS))
        """[4] filled places of all packs."""
        self.drawn, self.dropped, self.tokens, self.images, self.labelled = np.zeros((5, datasets))
        """[datasets] each."""
        self.modes = np.zeros((datasets, modes))
        """Images of each dataset in each mode."""
        self.reasons = np.zeros(len(REASONS))
        """Dropped samples by reason; one that exceeds two budgets counts in both."""
        self.split = np.zeros(2)
        """Texts that were split, and their stretches."""

    def add(self, plan: WindowPlan) -> None:
        """Add one window."""
        kept = np.ones(len(plan.draws.source), dtype=bool)
        kept[plan.dropped] = False
        source, costs = plan.draws.source, plan.costs

        def per_dataset(rows: NDArray[np.bool_], values: NDArray[np.int64] | None = None) -> NDArray:
            weights = None if values is None else values[rows]
            return np.bincount(source[rows], weights=weights, minlength=len(self.drawn))

        self.packs += len(plan.packs)
        self.budgets += costs.budgets[kept].sum(axis=0)
        self.drawn += per_dataset(plan.parts == 0)
        self.dropped += per_dataset(~kept)
        self.tokens += per_dataset(kept, costs.budgets[:, TOKENS])
        self.images += per_dataset(kept, costs.images)
        self.labelled += per_dataset(kept, costs.labelled)
        np.add.at(self.modes, (source[kept], costs.mode[kept]), costs.images[kept])
        rejected = costs.budgets[~kept]
        unreadable = rejected[:, PATCHES] >= NEVER_FITS
        self.reasons[:-1] += (rejected[~unreadable] > self._capacity).sum(axis=0)
        self.reasons[-1] += unreadable.sum()
        texts = np.count_nonzero(plan.parts == 1)
        self.split += (texts, texts + np.count_nonzero(plan.parts > 0))

    def times(self, factor: float) -> Tally:
        """The same for `factor` times as many windows."""
        result = Tally(*self.modes.shape, self._capacity)
        for name in _sums(self):
            setattr(result, name, getattr(self, name) * factor)
        return result

    @staticmethod
    def sum(tallies: list[Tally]) -> Tally:
        """Of at least one tally; all of the same datasets, modes and capacity."""
        result = tallies[0].times(0)
        for tally in tallies:
            for name in _sums(tally):
                setattr(result, name, getattr(result, name) + getattr(tally, name))
        return result


def _sums(tally: Tally) -> list[str]:
    return [name for name in vars(tally) if not name.startswith("_")]
