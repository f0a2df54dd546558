"""Draw t -> which sample of which dataset. Two orders with the same methods.

`MixtureDraws` is endless and shuffled, for training; `OnePassDraws` is finite and in order, for held-out data.

What is special here: nothing is stored and nothing depends on what was drawn before. For draw t of the run,

    window, place = divmod(t, W)
    ticket        = permutation of W, keyed (seed, "window", window), at place
    dataset       = the one whose quota in this window holds the ticket (quotas laid end to end)
    use           = uses of that dataset before this window + the ticket's number within the quota
    epoch, place  = divmod(use, samples of the dataset)
    sample        = order of the dataset (`block_order.SampleOrder`), keyed (seed, "epoch", dataset name, epoch),
                    at place

so within one epoch of a dataset each of its samples is drawn exactly once, whatever the weights and phases do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from train.data.block_order import GLOBAL_ORDER, EpochOrder, SampleOrder
from train.data.mixture import Mixture, Quotas
from train.data.modes import mode_slots
from train.data.order import Permutation, derive_key


class Draw(NamedTuple):
    """One draw."""

    name: str
    sample: int
    epoch: int


class DrawTable(NamedTuple):
    """The draws of one window, in order; arrays of equal length."""

    source: NDArray[np.int64]
    """Number of the dataset in `names`."""
    sample: NDArray[np.int64]
    epoch: NDArray[np.int64]
    mode_slot: NDArray[np.int64]
    """What decides the resolution mode, see `modes.mode_slots`."""
    phase: int = 0
    """Phase of the mixture that the window is in."""


class DrawOrder(Protocol):
    """What the pack stream needs to know about an order of draws."""

    names: list[str]
    windows: int | None
    """Number of windows; None when the order is endless."""

    def window(self, window: int) -> DrawTable:
        """All draws of one window."""
        ...

    def epochs(self, window: int) -> dict[str, float]:
        """Dataset -> how often it has been gone through before this window."""
        ...


class MixtureDraws:
    """The endless order of training. Raises ConfigError like `Quotas`."""

    windows: int | None = None

    def __init__(
        self, mixture: Mixture, sizes: Mapping[str, int], seed: int, order: SampleOrder = GLOBAL_ORDER
    ) -> None:
        self.quotas = Quotas(mixture, sizes)
        self.names = self.quotas.names
        self.sizes = np.array([sizes[name] for name in self.names], dtype=np.int64)
        """[sources] samples of every dataset."""
        self._window = mixture.window
        self._seed = seed
        self._order = order
        # A window touches one or two epochs of each dataset, and the next window the same ones.
        self._epoch_order = lru_cache(maxsize=256)(self._make_epoch_order)

    def _make_epoch_order(self, source: int, epoch: int) -> EpochOrder:
        key = derive_key(self._seed, "epoch", self.names[source], epoch)
        return self._order.over(int(self.sizes[source]), key)

    def _window_order(self, window: int) -> Permutation:
        return Permutation(self._window, derive_key(self._seed, "window", window))

    def draw(self, draw: int) -> Draw:
        """One draw of the run, in constant time."""
        window, place = divmod(draw, self._window)
        ticket = self._window_order(window).at(place)
        ends = np.cumsum(self.quotas.of(window))
        source = int(np.searchsorted(ends, ticket, side="right"))
        first = int(ends[source - 1]) if source else 0
        use = int(self.quotas.uses_before(window)[source]) + ticket - first
        epoch, place = divmod(use, int(self.sizes[source]))
        return Draw(self.names[source], self._epoch_order(source, epoch).at(place), epoch)

    def window(self, window: int) -> DrawTable:
        """All draws of one window."""
        ticket = self._window_order(window).take(np.arange(self._window))
        quota = self.quotas.of(window)
        ends = np.cumsum(quota)
        source = np.searchsorted(ends, ticket, side="right")
        use = self.quotas.uses_before(window)[source] + ticket - (ends - quota)[source]
        epoch, place = np.divmod(use, self.sizes[source])
        sample, slot = np.empty_like(place), np.empty_like(place)
        for number in np.unique(source).tolist():
            for epoch_number in np.unique(epoch[source == number]).tolist():
                mine = (source == number) & (epoch == epoch_number)
                sample[mine] = self._epoch_order(number, epoch_number).take(place[mine])
            slot[source == number] = mode_slots(self._seed, self.names[number], use[source == number])
        return DrawTable(source, sample, epoch, slot, self.quotas.phase_of(window))

    def epochs(self, window: int) -> dict[str, float]:
        """How often each dataset has been gone through before this window."""
        uses = self.quotas.uses_before(window)
        return {
            name: float(use / size) if size else 0.0
            for name, use, size in zip(self.names, uses, self.sizes, strict=True)
        }


class OnePassDraws:
    """Every sample of every dataset once, in order."""

    def __init__(self, sizes: Mapping[str, int], window: int) -> None:
        self.names = sorted(sizes)
        self._ends = np.cumsum([sizes[name] for name in self.names], dtype=np.int64)
        self._window = window
        self.windows: int | None = -(-int(self._ends[-1]) // window)

    def window(self, window: int) -> DrawTable:
        """All draws of one window; the last one may be shorter."""
        draws = np.arange(window * self._window, min((window + 1) * self._window, int(self._ends[-1])))
        source = np.searchsorted(self._ends, draws, side="right")
        sample = draws - np.concatenate([[0], self._ends[:-1]])[source]
        slot = np.empty_like(draws)
        for number in np.unique(source).tolist():
            slot[source == number] = mode_slots(0, self.names[number], sample[source == number])
        return DrawTable(source, sample, np.zeros_like(draws), slot)

    def epochs(self, window: int) -> dict[str, float]:
        """How far each dataset has been gone through before this window."""
        firsts = np.concatenate([[0], self._ends[:-1]])
        done = np.clip(window * self._window - firsts, 0, self._ends - firsts)
        sizes = np.maximum(self._ends - firsts, 1)
        return dict(zip(self.names, (done / sizes).tolist(), strict=True))
