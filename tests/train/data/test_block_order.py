"""The block order: a permutation that keeps neighbours together, computed like the global one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.errors import ConfigError
from train.data.block_order import BlockPermutation, SampleOrder
from train.data.draws import MixtureDraws
from train.data.mixture import Mixture
from train.data.order import Permutation

orders = st.tuples(st.integers(1, 250), st.integers(0, 2**60), st.integers(1, 30), st.integers(1, 6))


@settings(deadline=None, max_examples=15)
@given(orders)
def test_every_element_comes_once(case: tuple[int, int, int, int]) -> None:
    size = case[0]
    order = BlockPermutation(*case)
    elements = order.take(np.arange(size))
    assert np.array_equal(np.sort(elements), np.arange(size))
    assert [order.at(position) for position in (0, size // 2, size - 1)] == elements[
        [0, size // 2, -1]
    ].tolist()
    with pytest.raises(IndexError):
        order.at(size)


@settings(deadline=None, max_examples=15)
@given(orders)
def test_a_window_reads_whole_blocks(case: tuple[int, int, int, int]) -> None:
    size, _, block, window = case
    blocks = BlockPermutation(*case).take(np.arange(size)) // block
    seen: set[int] = set()
    position = 0
    while position < size:
        # All samples of `window` blocks, the short one counted as a block, before any other block is begun.
        mine: list[int] = []
        for number in blocks[position:].tolist():
            if number not in mine:
                if len(mine) == window:
                    break
                mine.append(number)
            position += 1
        assert not seen.intersection(mine)
        seen.update(mine)
        assert position == sum(min(block, size - number * block) for number in seen)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10**6), st.integers(0, 2**60), st.data())
def test_the_inverse_finds_the_position(size: int, key: int, data: st.DataObject) -> None:
    permutation = Permutation(size, key)
    element = data.draw(st.integers(0, size - 1))
    assert permutation.at(permutation.position_of(element)) == element


def test_epochs_and_blocks_are_shuffled() -> None:
    one, other = (BlockPermutation(10_000, key, 100, 10).take(np.arange(10_000)) for key in (1, 2))
    assert not np.array_equal(one, other)
    assert len(np.unique(one[:1000] // 100)) == 10
    assert np.mean(np.diff(one[:1000]) == 1) < 0.01
    assert not np.array_equal(np.unique(one[:1000] // 100), np.arange(10))


def test_draws_in_block_order_stay_near_each_other() -> None:
    sizes, mixture = {"a": 5000, "b": 3000}, Mixture.of({"a": 1, "b": 1}, window=100)
    draws = MixtureDraws(mixture, sizes, 1, SampleOrder("block", 50, 4))
    for window in range(20):
        table = draws.window(window)
        assert len(np.unique(table.sample[table.source == 0] // 50)) <= 8
        draw = draws.draw(window * 100 + 3)
        assert (draw.name, draw.sample) == (draws.names[table.source[3]], table.sample[3])


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(ConfigError, match="order=random is unknown; choose one of global, block"):
        SampleOrder("random")
    with pytest.raises(ConfigError, match="1 or more, not 0 and 4"):
        SampleOrder("block", 0, 4)
