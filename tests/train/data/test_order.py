"""The permutation: a bijection at every size, the same from both paths, uniform, fast, and never changed."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.order import Permutation, derive_key

PINNED_KEY = 136398477428382163
PINNED_SMALL = [7, 2, 3, 4, 6, 8, 1, 5, 9, 0]
PINNED_WINDOW = [1059, 2310, 2279, 2932, 2588]
PINNED_LARGE = [15431140, 40688308, 22757481, 31662596, 19906313]

keys = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(st.integers(1, 3000), keys)
def test_is_a_bijection(size: int, key: int) -> None:
    elements = Permutation(size, key).take(np.arange(size))
    assert np.array_equal(np.sort(elements), np.arange(size))


@settings(deadline=None)
@given(st.integers(1, 2**62), keys, st.data())
def test_one_element_equals_many(size: int, key: int, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
    permutation = Permutation(size, key)
    many = permutation.take(np.array(positions, dtype=np.int64))
    assert many.tolist() == [permutation.at(position) for position in positions]
    assert ((many >= 0) & (many < size)).all()
    assert len(set(many.tolist())) == len(set(positions))


def test_order_of_runs_that_exist_never_changes() -> None:
    # Checkpoints rely on these numbers. Whoever has to change them raises train.data.state.SCHEMA.
    assert derive_key(1, "epoch", "card", 0) == PINNED_KEY
    assert Permutation(10, PINNED_KEY).take(np.arange(10)).tolist() == PINNED_SMALL
    assert Permutation(4096, PINNED_KEY).take(np.arange(5)).tolist() == PINNED_WINDOW
    assert Permutation(50_000_000, PINNED_KEY).take(np.arange(5)).tolist() == PINNED_LARGE


def test_all_orders_are_equally_likely() -> None:
    for size, trials in ((4, 1000), (5, 3000)):
        permutations = (Permutation(size, derive_key(seed)) for seed in range(trials))
        counts = Counter(tuple(map(permutation.at, range(size))) for permutation in permutations)
        orders = list(itertools.permutations(range(size)))
        expected = trials / len(orders)
        chi_squared = sum((counts[order] - expected) ** 2 / expected for order in orders)
        assert chi_squared / (len(orders) - 1) < 2


def test_large_orders_are_uniform() -> None:
    elements = Permutation(50_000_000, derive_key(7, "a", 0)).take(np.arange(100_000))
    counts = np.histogram(elements, bins=100, range=(0, 50_000_000))[0]
    assert 0.6 < ((counts - 1000) ** 2 / 1000).sum() / 99 < 1.5
    neighbours = np.corrcoef(elements[:-1], elements[1:])[0, 1]
    assert abs(neighbours) < 0.02


def test_keys_tell_their_parts_apart() -> None:
    parts = [(1, "a", 0), (1, "a", 1), (2, "a", 0), (1, "b", 0), (1, "a0"), (1, "a", "0"), ("1", "a", 0)]
    assert len({derive_key(*part) for part in parts}) == len(parts)


def test_positions_outside_are_refused() -> None:
    permutation = Permutation(10, 1)
    for position in (-1, 10):
        with pytest.raises(IndexError, match="outside"):
            permutation.at(position)
        with pytest.raises(IndexError, match="outside"):
            permutation.take(np.array([0, position]))
    with pytest.raises(ValueError, match="between 1"):
        Permutation(0, 1)
    assert permutation.take(np.zeros((2, 0), dtype=np.int64)).shape == (2, 0)


def test_a_million_lookups_in_under_a_second() -> None:
    permutation = Permutation(50_000_000, 1)
    started = time.process_time()  # of the processor: others may run beside it
    permutation.take(np.arange(1_000_000))
    assert time.process_time() - started < 1
