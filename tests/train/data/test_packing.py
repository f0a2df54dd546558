"""Packs: no budget exceeded, every sample once, well filled, and dealt out by arithmetic."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.packing import TOKENS, pack_window, packs_of

CAPACITY = (100, 64, 8, 32)


@st.composite
def windows(draw: st.DrawFn) -> np.ndarray:
    count = draw(st.integers(1, 80))
    columns = [st.integers(2, 120), st.integers(0, 70), st.integers(0, 9), st.integers(0, 34)]
    return np.array([[draw(column) for column in columns] for _ in range(count)], dtype=np.int64)


@settings(deadline=None, max_examples=80)
@given(windows())
def test_no_budget_is_exceeded_and_every_sample_is_packed_once(costs: np.ndarray) -> None:
    packs, dropped = pack_window(costs, CAPACITY)
    for pack in packs:
        assert len(pack)
        assert (costs[pack].sum(axis=0) <= CAPACITY).all()
    everything = np.concatenate([*packs, dropped])
    assert np.array_equal(np.sort(everything), np.arange(len(costs)))
    assert dropped.tolist() == [i for i, cost in enumerate(costs) if (cost > CAPACITY).any()]


@settings(deadline=None, max_examples=30)
@given(windows())
def test_the_plan_is_a_function_of_the_costs(costs: np.ndarray) -> None:
    first, second = pack_window(costs, CAPACITY), pack_window(costs.astype(np.int32), CAPACITY)
    assert [pack.tolist() for pack in first.packs] == [pack.tolist() for pack in second.packs]


def realistic_costs(count: int, seed: int = 0) -> np.ndarray:
    """An OCR mix: 45 % Gundam pages, 30 % Base, Small and Tiny pictures, 10 % text only."""
    numbers = np.random.default_rng(seed)
    kinds = numbers.choice(5, count, p=[0.45, 0.2, 0.15, 0.1, 0.1])
    log_mean = np.array([6.9, 6.3, 4.5, 4.0, 7.0])[kinds]
    text = numbers.lognormal(log_mean, np.array([0.6, 0.7, 0.6, 0.5, 0.9])[kinds]).astype(np.int64) + 10
    columns, rows = np.array([(2, 3), (3, 2), (2, 2), (3, 3), (1, 2), (2, 4)])[
        numbers.integers(0, 6, count)
    ].T
    tiles = np.where(kinds == 0, columns * rows, 0)
    gundam = (columns * 10 + 1) * rows * 10 + 273
    placeholders = np.where(kinds == 0, gundam, np.array([0, 273, 111, 73, 0])[kinds])
    patches = tiles * 1600 + np.array([4096, 4096, 1600, 1024, 0])[kinds]
    views = tiles + (kinds != 4)
    vision = tiles * 100 + np.array([256, 256, 100, 64, 0])[kinds]
    return np.stack([text + placeholders, patches, views, vision], axis=1)


def test_realistic_windows_are_filled() -> None:
    costs = realistic_costs(4096)
    capacity = (8192, 64_000, 64, 4_400)
    packs, dropped = pack_window(costs, capacity)
    filled = costs[np.concatenate(packs), TOKENS].sum()
    assert filled / (len(packs) * capacity[TOKENS]) > 0.995
    assert len(dropped) < 0.01 * len(costs)


@given(st.integers(0, 1000), st.sampled_from([(8, 1), (4, 2), (2, 4), (1, 8)]))
def test_a_step_owns_the_same_packs_for_every_data_parallel_size(step: int, layout: tuple[int, int]) -> None:
    micro_batches, ranks = layout
    packs = [packs_of(step, micro_batches, ranks, rank) for rank in range(ranks)]
    assert sorted(pack for mine in packs for pack in mine) == list(range(step * 8, step * 8 + 8))
    assert all(len(mine) == micro_batches for mine in packs)
