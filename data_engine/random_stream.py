"""Random numbers that stay the same for ever: on any machine, in any process, under any library version.

Python's and numpy's own helpers may change what they draw from a seed between versions, so the few that we
need stand here, over SplitMix64 (Steele, Lea, Flood 2014). A stream's seed is a hash of what the stream is
for; two concerns of one sample never share a stream, so a new draw in one does not shift the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


class Stream:
    """One stream of draws. Cheap to make (a microsecond), so that every concern can have its own."""

    __slots__ = ("_state",)

    def __init__(self, name: str) -> None:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        self._state = int.from_bytes(digest, "little")

    def bits(self) -> int:
        """A uniform integer in [0, 2**64)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def unit(self) -> float:
        """A uniform number in [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """A uniform integer, both ends included. The bias of at most 2**-53 per value does not matter here."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def choice(self, values: Sequence[T]) -> T:
        return values[int(self.unit() * len(values))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One key, with a probability in proportion to its weight."""
        remaining = self.unit() * sum(weights.values())
        chosen = None
        for key, weight in weights.items():
            if weight > 0:
                chosen = key
                if remaining < weight:
                    break
                remaining -= weight
        if chosen is None:
            raise ValueError("all weights are zero")
        return chosen

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """`count` different elements in random order."""
        if count > len(values):
            raise ValueError(f"cannot draw {count} different values out of {len(values)}")
        pool = list(values)
        for place in range(count):
            other = self.integer(place, len(pool) - 1)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        return self.sample(values, len(values))


@dataclass(frozen=True)
class Draws:
    """Where all chance of one sample comes from."""

    seed: int
    kind: str
    index: int

    def stream(self, concern: str) -> Stream:
        """The stream of one concern: "content", "style", "layout", ..."""
        return Stream(f"{self.seed}/{self.kind}/{self.index}/{concern}")


def permuted(place: int, count: int, name: str) -> int:
    """Where `place` goes in the permutation of range(count) called `name`; computed, never stored.

    A Feistel network over the next even number of bits; what falls outside of the range walks on until it
    falls inside, which keeps it a permutation.
    """
    if not 0 <= place < count:
        raise ValueError(f"{place} is not in range({count})")
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    key = Stream(name)
    round_keys = [key.bits() for _ in range(6)]
    while True:
        left, right = place >> half, place & mask
        for round_key in round_keys:
            mixed = ((right + 1) * 0x9E3779B97F4A7C15 ^ round_key) & _MASK
            mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & _MASK
            left, right = right, left ^ (mixed >> 32) & mask
        place = left << half | right
        if place < count:
            return place
