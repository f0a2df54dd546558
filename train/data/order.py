"""A permutation that is computed, not stored: position -> element, in constant memory.

What is special here:
- `Permutation(n, key)` is a bijection of range(n) for any n up to 2**62. Element i costs a few integer
  operations, so a global shuffle of a billion samples needs no array, and seeking is free.
- A Feistel network over the smallest power of two that holds n, with *cycle walking*: an output outside
  range(n) is fed in again until it falls inside. Less than two walks on average (for n >= 3).
- The halves may differ in width by one bit: rounds alternate between them instead of swapping them.
- The same integers come from the scalar path (Python integers) and the vectorised one (numpy uint64), on every
  machine: only 64-bit wrapping integer arithmetic is used, and keys come from BLAKE2b.

Another order needs only the same methods; see `block_order` for spinning disks and object stores.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

MASK_64 = (1 << 64) - 1
ROUNDS = ((8, 24), (16, 12), (64, 8))
"""(up to so many bits, rounds): a round permutes little of a small domain, and with 8 of them some orders of five
elements are measurably more likely than others."""
CHUNK = 1 << 15  # elements per numpy pass: all temporaries stay in the L2 cache
FEW = 16  # elements that are done one by one in the time of a numpy pass

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from any sequence of integers and strings, e.g. derive_key(seed, "cards", epoch).

    Parts are length-prefixed and typed: ("a", "b") differs from ("ab",), and 1 from "1".
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = f"{'i' if isinstance(part, int) else 's'}{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little")


def _splitmix(state: int) -> int:
    """The output function of SplitMix64: a bijection of 64-bit integers with full avalanche."""
    state = ((state ^ (state >> 30)) * _MULTIPLY_1) & MASK_64
    state = ((state ^ (state >> 27)) * _MULTIPLY_2) & MASK_64
    return state ^ (state >> 31)


class Permutation:
    """A keyed bijection of range(size). Immutable; safe to share between threads.

    `at(i)` takes and returns Python integers; `take(positions)` does the same for an int64 array of any shape.
    Both raise IndexError outside range(size).
    """

    def __init__(self, size: int, key: int) -> None:
        if not 1 <= size <= 1 << 62:
            raise ValueError(f"a permutation needs between 1 and 2**62 elements, not {size}")
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low_bits = bits // 2
        self._high_bits = bits - self._low_bits
        rounds = next(count for limit, count in ROUNDS if bits <= limit)
        self._round_keys = [_splitmix((key + (i + 1) * _GOLDEN) & MASK_64) for i in range(rounds)]

    def __len__(self) -> int:
        return self.size

    def at(self, position: int) -> int:
        """The element at one position."""
        if not 0 <= position < self.size:
            raise IndexError(f"position {position} is outside range({self.size})")
        return self._walk(position)

    def take(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The elements at many positions; int64, same shape."""
        flat = np.ascontiguousarray(positions).reshape(-1)
        if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= self.size):
            raise IndexError(f"a position is outside range({self.size})")
        source = flat.astype(np.uint64)
        elements = np.empty_like(source)
        for start in range(0, source.size, CHUNK):
            chunk = self._feistel_vector(source[start : start + CHUNK])
            outside = np.flatnonzero(chunk >= np.uint64(self.size))
            while outside.size > FEW:
                walked = self._feistel_vector(chunk[outside])
                chunk[outside] = walked
                outside = outside[walked >= np.uint64(self.size)]
            for place in outside.tolist():
                chunk[place] = self._walk(int(chunk[place]))
            elements[start : start + CHUNK] = chunk
        return elements.astype(np.int64).reshape(np.shape(positions))

    def position_of(self, element: int) -> int:
        """The position of one element: the inverse of `at`."""
        if not 0 <= element < self.size:
            raise IndexError(f"element {element} is outside range({self.size})")
        return self._walk(element, inverse=True)

    def _walk(self, value: int, inverse: bool = False) -> int:
        """Feed a value in until it falls inside."""
        value = self._feistel_scalar(value, inverse)
        while value >= self.size:
            value = self._feistel_scalar(value, inverse)
        return value

    # Even rounds change the high half by a function of the low one, odd rounds the low half by the high one.
    # Each round is its own inverse, hence the whole is a bijection of the power of two whatever the function is.

    def _feistel_scalar(self, value: int, inverse: bool = False) -> int:
        low_bits, high_bits = self._low_bits, self._high_bits
        low, high = value & ((1 << low_bits) - 1), value >> low_bits
        rounds = list(enumerate(self._round_keys))
        for index, key in reversed(rounds) if inverse else rounds:
            half, width = (low, high_bits) if index % 2 == 0 else (high, low_bits)
            mixed = ((half + key) * _MULTIPLY_1) & MASK_64
            mixed = ((mixed ^ (mixed >> 29)) * _MULTIPLY_2) & MASK_64
            mixed >>= 64 - width
            if index % 2 == 0:
                high ^= mixed
            else:
                low ^= mixed
        return (high << low_bits) | low

    def _feistel_vector(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low_bits, high_bits = self._low_bits, self._high_bits
        low = values & np.uint64((1 << low_bits) - 1)
        high = values >> np.uint64(low_bits)
        mixed, shifted = np.empty_like(low), np.empty_like(low)
        for index, key in enumerate(self._round_keys):
            half, width = (low, high_bits) if index % 2 == 0 else (high, low_bits)
            np.add(half, np.uint64(key), out=mixed)
            np.multiply(mixed, np.uint64(_MULTIPLY_1), out=mixed)
            np.right_shift(mixed, np.uint64(29), out=shifted)
            np.bitwise_xor(mixed, shifted, out=mixed)
            np.multiply(mixed, np.uint64(_MULTIPLY_2), out=mixed)
            np.right_shift(mixed, np.uint64(64 - width), out=mixed)
            changed = high if index % 2 == 0 else low
            np.bitwise_xor(changed, mixed, out=changed)
        return (high << np.uint64(low_bits)) | low
