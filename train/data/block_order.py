"""An order for spinning disks and object stores: neighbours in a shard are drawn close together.

    blocks of consecutive samples   0 1 2 3 | 4 5 6 7 | 8 9 10 11 | 12 13
    blocks permuted                 8 9 10 11 | 0 1 2 3 | 12 13 | 4 5 6 7
    shuffled inside windows of 2    1 10 2 9 3 0 8 11   5 13 4 7 12 6

What is special here:
- As computed as the global order: position -> sample in constant time, every sample once per epoch, no array.
- While a window lasts, reads fall into its blocks alone, so a shard is fetched once and read whole. The price is
  a shuffle that mixes `window` x `block` samples at a time; blocks come in another order in every epoch.
- The last block may be short, and lies anywhere. Where it lies is known from the inverse permutation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from train.data.order import Permutation, derive_key

ORDERS = ("global", "block")


class EpochOrder(Protocol):
    """A bijection of range(size), computed; see `order.Permutation`."""

    size: int

    def at(self, position: int) -> int:
        """The element at one position."""
        ...

    def take(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The elements at many positions; int64, same shape."""
        ...


class BlockPermutation:
    """A keyed bijection of range(size) that keeps neighbours together. Immutable; safe to share between threads.

    Args:
        block: consecutive samples that stay together.
        window: blocks that are shuffled into each other.

    `at` and `take` as those of Permutation; both raise IndexError outside range(size).
    """

    def __init__(self, size: int, key: int, block: int, window: int) -> None:
        self.size = size
        self._block = block
        self._window = window
        self._key = key
        blocks = -(-size // block)
        self._blocks = Permutation(blocks, derive_key(key, "blocks"))
        self._missing = blocks * block - size
        """Samples that the last block is short of."""
        self._short = self._blocks.position_of(blocks - 1)
        self._inside = lru_cache(maxsize=64)(self._make_inside)

    def __len__(self) -> int:
        return self.size

    def _start(self, block_position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position where the block in this place of the order begins."""
        return block_position * self._block - np.where(block_position > self._short, self._missing, 0)

    def _block_position(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place in the order of the block that a position falls into."""
        end_of_short = (self._short + 1) * self._block - self._missing
        return np.where(positions < end_of_short, positions, positions + self._missing) // self._block

    def _make_inside(self, window: int) -> Permutation:
        edges = np.array([window * self._window, (window + 1) * self._window], dtype=np.int64)
        start, end = np.minimum(self._start(edges), self.size).tolist()
        return Permutation(end - start, derive_key(self._key, "inside", window))

    def at(self, position: int) -> int:
        """The element at one position."""
        return int(self.take(np.array([position], dtype=np.int64))[0])

    def take(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The elements at many positions; int64, same shape."""
        flat = np.ascontiguousarray(positions).reshape(-1).astype(np.int64)
        if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= self.size):
            raise IndexError(f"a position is outside range({self.size})")
        windows = self._block_position(flat) // self._window
        starts = self._start(windows * self._window)
        shuffled = np.empty_like(flat)
        by_window = np.argsort(windows, kind="stable")
        distinct, firsts = np.unique(windows[by_window], return_index=True)
        for window, mine in zip(distinct.tolist(), np.split(by_window, firsts[1:]), strict=True):
            shuffled[mine] = starts[mine] + self._inside(window).take(flat[mine] - starts[mine])
        places = self._block_position(shuffled)
        elements = self._blocks.take(places) * self._block + shuffled - self._start(places)
        return elements.reshape(np.shape(positions))


@dataclass(frozen=True)
class SampleOrder:
    """How the samples of a dataset follow each other within an epoch. Raises ConfigError when it makes no sense."""

    kind: str = "global"
    """`global` shuffles the whole dataset; `block` keeps neighbours together."""
    block: int = 0
    """Consecutive samples in a block."""
    window: int = 0
    """Blocks that are shuffled into each other."""

    def __post_init__(self) -> None:
        if self.kind not in ORDERS:
            raise ConfigError(f"order={self.kind} is unknown; choose one of {', '.join(ORDERS)}.")
        if self.kind == "block" and (self.block < 1 or self.window < 1):
            raise ConfigError(
                f"order=block needs block_samples and block_window of 1 or more, not {self.block} and {self.window}."
            )

    def over(self, size: int, key: int) -> EpochOrder:
        """The order of `size` samples in the epoch that has this key."""
        if self.kind == "global":
            return Permutation(size, key)
        return BlockPermutation(size, key, self.block, self.window)


GLOBAL_ORDER = SampleOrder()
