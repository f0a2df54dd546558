"""Packs: no budget exceeded, every sample once, well filled, and dealt out by arithmetic."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.packing import TOKENS, assign_packs, pack_window

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


@given(st.lists(st.integers(0, 10**6), min_size=24, max_size=24), st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_balance_never_changes_the_packs_of_a_step(loads: list[int], ranks: int) -> None:
    assignment = assign_packs(loads, 24 // ranks, ranks)
    assert assignment.shape == (ranks, 24 // ranks)
    assert sorted(assignment.reshape(-1).tolist()) == list(range(24))
    totals = np.array(loads)[assignment].sum(axis=1)
    # Whoever has less so far gets the next heavier pack: two ranks never differ by more than one pack.
    assert totals.max() - totals.min() <= max(loads)


def test_ranks_get_nearly_the_same_load() -> None:
    numbers = np.random.default_rng(0)
    unbalanced, balanced = [], []
    for _ in range(20):
        loads = numbers.lognormal(10, 0.3, 640).astype(np.int64)
        dealt = loads.reshape(16, 40).sum(axis=0)
        mine = loads[assign_packs(loads.tolist(), 16, 40)].sum(axis=1)
        unbalanced.append(dealt.max() / dealt.mean())
        balanced.append(mine.max() / mine.mean())
    assert np.mean(unbalanced) > 1.1
    assert np.mean(balanced) < 1.01 and max(balanced) < 1.05
