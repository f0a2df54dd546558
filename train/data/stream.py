"""The stream of packs: pack number -> its samples, the same on every rank and for every data-parallel size.

What is special here:
- A window is drawn, measured, packed and its packs shuffled, from the window number alone. How many packs it
  gives is known only then, so pack p is found by walking over windows. The *anchor* (a window and the number of
  its first pack) is where the walk starts: window 0, or what a checkpoint remembers. Both lead to the same packs.
- Plans are made once each, outside of any lock, and the next window's while this one is consumed.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from model.views import ResolutionMode
from train.data.costs import Costs
from train.data.draws import DrawOrder, DrawTable
from train.data.modes import ModePlan
from train.data.order import Permutation, derive_key
from train.data.packing import BUDGETS, TOKENS, pack_window
from train.data.splitting import split_long_texts

PLANS_KEPT = 4  # windows around the present one; a plan of 4,096 draws takes about 0.3 MB


class CostTable(Protocol):
    """Measures samples; see `costs.SampleCosts`."""

    modes: ModePlan

    def of(self, draws: DrawTable) -> Costs:
        """Of every draw of a table."""
        ...


@dataclass(frozen=True)
class WindowPlan:
    """One window, drawn, measured and packed.

    Its rows are draws, or stretches of one where a text was split; pack members and `dropped` are numbers of rows.
    """

    window: int
    draws: DrawTable
    costs: Costs
    parts: NDArray[np.int64]
    packs: list[NDArray[np.int64]]
    """In the order in which they are consumed."""
    dropped: NDArray[np.int64]


class Pack(NamedTuple):
    """One pack of the stream: arrays with one entry per sample."""

    number: int
    window: int
    source: NDArray[np.int64]
    sample: NDArray[np.int64]
    modes: list[ResolutionMode]
    parts: NDArray[np.int64]
    """Which stretch of a text that was split; 0 of a whole sample."""
    tokens: NDArray[np.int64]
    """Lengths, placeholders of images included."""
    budgets: NDArray[np.int64]
    """[4], the sum over the samples."""
    labelled: int
    load: int
    """Work of the vision encoder, the sum over the samples; see `costs.Costs`."""


def plan_checksum(identities: Sequence[Sequence[str]]) -> str:
    """Hash of the samples of some packs, in order; ranks that planned the same packs have the same."""
    return hashlib.sha256("\n".join(" ".join(pack) for pack in identities).encode()).hexdigest()


class PackStream:
    """Packs by number. Safe to use from several threads.

    Args:
        capacity: budgets of a pack, in the order of `packing.BUDGETS`.
        seed: key of the pack order; None keeps packs in the order of their making.
        ahead: plan the next window in the background as soon as a window is entered.
        split: split texts without images that are too long for a pack, rather than drop them.
    """

    def __init__(
        self,
        draws: DrawOrder,
        costs: CostTable,
        capacity: tuple[int, int, int, int],
        seed: int | None,
        ahead: bool = False,
        split: bool = False,
    ) -> None:
        self.draws = draws
        self._costs = costs
        self._capacity = capacity
        self._seed = seed
        self._ahead = ahead
        self._split = split
        self._lock = threading.Lock()
        self._plans: dict[int, Future[WindowPlan]] = {}
        self._anchor_window = 0
        self._firsts = [0]  # first pack of the anchor window and of every window after it that is known

    def plan(self, window: int) -> WindowPlan:
        """The plan of one window.

        Raises:
            ConfigError: every sample of the window is too large for a micro-batch.
        """
        with self._lock:
            future = self._plans.get(window)
            mine = future is None
            if future is None:
                future = self._plans[window] = Future()
                for old in sorted(self._plans, key=lambda w: abs(w - window))[PLANS_KEPT:]:
                    del self._plans[old]
        if mine:
            try:
                future.set_result(self._make_plan(window))
            except BaseException as error:
                with self._lock:
                    self._plans.pop(window, None)
                future.set_exception(error)
        return future.result()

    def _make_plan(self, window: int) -> WindowPlan:
        draws = self.draws.window(window)
        costs = self._costs.of(draws)
        parts = np.zeros(len(draws.source), np.int64)
        if self._split:
            draws, costs, parts = split_long_texts(draws, costs, self._capacity[TOKENS])
        packs, dropped = pack_window(costs.budgets, self._capacity)
        if not packs and self.draws.windows is None:
            smallest = dict(zip(BUDGETS, costs.budgets.min(axis=0).tolist(), strict=True))
            have = dict(zip(BUDGETS, self._capacity, strict=True))
            raise ConfigError(
                f"none of the {len(dropped)} samples of window {window} fits a micro-batch: they need at least "
                f"{smallest} and it has {have}; enlarge it or choose a smaller resolution mode."
            )
        if self._seed is not None and packs:
            # Packing puts equal lengths together and the badly filled last; training should not see that.
            order = Permutation(len(packs), derive_key(self._seed, "packs", window))
            packs = [packs[i] for i in order.take(np.arange(len(packs)))]
        return WindowPlan(window, draws, costs, parts, packs, dropped)

    def locate(self, pack: int) -> tuple[int, int] | None:
        """(window, place in it) of a pack; None after the end of a finite order."""
        while True:
            with self._lock:
                if pack < self._firsts[0]:
                    self._anchor_window, self._firsts = 0, [0]
                if pack < self._firsts[-1]:
                    at = bisect_right(self._firsts, pack) - 1
                    return self._anchor_window + at, pack - self._firsts[at]
                window = self._anchor_window + len(self._firsts) - 1
            if self.draws.windows is not None and window >= self.draws.windows:
                return None
            count = len(self.plan(window).packs)
            with self._lock:
                if window == self._anchor_window + len(self._firsts) - 1:
                    self._firsts.append(self._firsts[-1] + count)

    def pack(self, number: int) -> Pack | None:
        """One pack; None after the end of a finite order."""
        place = self.locate(number)
        if place is None:
            return None
        plan = self.plan(place[0])
        if self._ahead:
            self._plan_in_background(place[0] + 1)
        members = plan.packs[place[1]]
        return Pack(
            number,
            plan.window,
            plan.draws.source[members],
            plan.draws.sample[members],
            [self._costs.modes.modes[mode] for mode in plan.costs.mode[members].tolist()],
            plan.parts[members],
            plan.costs.budgets[members, TOKENS],
            plan.costs.budgets[members].sum(axis=0),
            int(plan.costs.labelled[members].sum()),
            int(plan.costs.load[members].sum()),
        )

    def _plan_in_background(self, window: int) -> None:
        with self._lock:
            if window in self._plans or (self.draws.windows is not None and window >= self.draws.windows):
                return

        def work() -> None:
            # A failure is raised again, to the one who needs the window, when it is asked for.
            with suppress(Exception):
                self.plan(window)

        threading.Thread(target=work, name=f"plan-window-{window}", daemon=True).start()

    def count(self) -> int:
        """All packs of a finite order; plans every window that is not known yet."""
        assert self.draws.windows is not None, "an endless order has no number of packs"
        while self.locate(self._firsts[-1]) is not None:
            pass
        return self._firsts[-1]

    def anchor(self, pack: int) -> tuple[int, int]:
        """The window that a pack is in and the number of that window's first pack: where a resumed run starts."""
        place = self.locate(pack)
        assert place is not None, f"pack {pack} is after the end"
        return place[0], pack - place[1]

    def set_anchor(self, window: int, first_pack: int) -> None:
        """Start from a place that `anchor` of an equal stream has given."""
        with self._lock:
            if window != self._anchor_window:
                self._anchor_window, self._firsts = window, [first_pack]
