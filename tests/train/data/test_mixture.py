"""Quotas are exact, computable for any window, and every epoch gives every sample once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.errors import ConfigError
from train.data.draws import MixtureDraws, OnePassDraws
from train.data.mixture import CYCLE, Mixture, Phase, Quotas, cycle_quotas, largest_remainder

weights_of_some = st.lists(st.floats(0.01, 100, allow_nan=False), min_size=1, max_size=6)


@given(weights_of_some, st.integers(1, 10_000))
def test_largest_remainder_is_the_nearest_split(weights: list[float], total: int) -> None:
    counts = largest_remainder(weights, total)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1 + 1e-6


def test_decimals_count_as_they_are_written() -> None:
    assert largest_remainder([0.7, 0.2, 0.1], 1000) == [700, 200, 100]
    assert largest_remainder([70, 20, 10], 10) == [7, 2, 1]
    assert largest_remainder([1, 1, 1], 10) == [4, 3, 3]


@settings(deadline=None)
@given(weights_of_some, st.integers(1, 500))
def test_every_window_is_full_and_every_cycle_exact(weights: list[float], window: int) -> None:
    quotas = cycle_quotas(weights, window)
    assert quotas.shape == (CYCLE, len(weights))
    assert (quotas.sum(axis=1) == window).all()
    assert quotas.sum(axis=0).tolist() == largest_remainder(weights, CYCLE * window)
    assert (quotas.max(axis=0) - quotas.min(axis=0) <= 1).all()


def test_quotas_of_the_paper_are_exact_in_every_window() -> None:
    mixture = Mixture.of({"ocr1": 70, "ocr2": 20, "text": 10}, window=1000)
    quotas = Quotas(mixture, {"ocr1": 5, "ocr2": 5, "text": 5})
    for window in (0, 1, 77, 12345):
        assert dict(zip(quotas.names, quotas.of(window).tolist(), strict=True)) == {
            "ocr1": 700,
            "ocr2": 200,
            "text": 100,
        }


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Mixture, dict[str, int]]:
    names = ["a", "b", "c"]
    window = draw(st.integers(5, 60))
    sizes = {name: draw(st.integers(1, 150)) for name in names}
    weights = st.fixed_dictionaries({name: st.sampled_from([0.0, 0.1, 1.0, 3.0]) for name in names}).filter(
        lambda chosen: any(chosen.values())
    )
    ends = sorted(draw(st.sets(st.integers(1, 20), max_size=2)))
    phases = [Phase(draw(weights), end * window) for end in ends]
    return Mixture((*phases, Phase(draw(weights))), window), sizes


@settings(deadline=None, max_examples=10)
@given(mixtures(), st.integers(0, 5))
def test_every_epoch_of_a_dataset_gives_every_sample_once(
    case: tuple[Mixture, dict[str, int]], seed: int
) -> None:
    mixture, sizes = case
    draws = MixtureDraws(mixture, sizes, seed)
    seen: Counter[tuple[int, int, int]] = Counter()
    uses = np.zeros(len(sizes), dtype=np.int64)
    for window in range(25):
        assert np.array_equal(draws.quotas.uses_before(window), uses)
        table = draws.window(window)
        assert np.array_equal(np.bincount(table.source, minlength=len(sizes)), draws.quotas.of(window))
        uses += draws.quotas.of(window)
        seen.update(zip(table.source.tolist(), table.epoch.tolist(), table.sample.tolist(), strict=True))
    assert set(seen.values()) == {1}
    for source, name in enumerate(draws.names):
        per_epoch = Counter(epoch for number, epoch, _ in seen if number == source)
        whole, rest = divmod(int(uses[source]), sizes[name])
        assert all(per_epoch[epoch] == sizes[name] for epoch in range(whole))
        assert per_epoch[whole] == rest


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.integers(0, 10**6))
def test_one_draw_equals_its_window(case: tuple[Mixture, dict[str, int]], number: int) -> None:
    mixture, sizes = case
    draws = MixtureDraws(mixture, sizes, seed=3)
    window, place = divmod(number, mixture.window)
    table = draws.window(window)
    draw = draws.draw(number)
    assert (draw.name, draw.sample, draw.epoch) == (
        draws.names[table.source[place]],
        table.sample[place],
        table.epoch[place],
    )


def test_a_curriculum_ends_at_a_whole_window() -> None:
    mixture = Mixture((Phase({"short": 1}, until_sample=250), Phase({"short": 1, "long": 3})), window=100)
    draws = MixtureDraws(mixture, {"short": 1000, "long": 1000}, seed=1)
    shares = [float(np.mean(draws.window(window).source == draws.names.index("long"))) for window in range(5)]
    assert shares == [0, 0, 0, 0.75, 0.75]


def test_later_weights_do_not_change_what_was_drawn_before() -> None:
    sizes = {"a": 300, "b": 200}
    first = Mixture((Phase({"a": 1, "b": 1}),), window=50)
    second = Mixture((Phase({"a": 1, "b": 1}, until_sample=500), Phase({"a": 9, "b": 1})), window=50)
    before, after = MixtureDraws(first, sizes, 1), MixtureDraws(second, sizes, 1)
    for window in range(10):
        assert np.array_equal(before.window(window).sample, after.window(window).sample)
    assert before.quotas.history() == after.quotas.history()[:1]
    assert after.quotas.history()[1] == {"first_window": 10, "weights": {"a": 9.0, "b": 1.0}}


def test_no_weights_means_by_size() -> None:
    quotas = Quotas(Mixture(window=100), {"a": 300, "b": 100})
    assert quotas.of(0).tolist() == [75, 25]


@pytest.mark.parametrize(
    ("phases", "window", "sentence"),
    [
        ((), 10, "at least one phase"),
        ((Phase(),), 0, "window=0"),
        ((Phase({"a": 1}, until_sample=5),), 10, "leave its until_sample out"),
        ((Phase({"a": 1}), Phase({"a": 1})), 10, "must be positive"),
        ((Phase({"a": 1}, 15), Phase({"a": 1}, 17), Phase({"a": 1})), 10, "holds no whole window of 10"),
        ((Phase({"a": -1}),), 10, "weight of a in phase 0 is -1"),
        ((Phase({"a": float("nan")}),), 10, "is nan"),
        ((Phase({"a": 0}),), 10, "all weights of phase 0 are 0"),
        ((Phase({"nothing": 1}),), 10, "the datasets are a, b, empty"),
        ((Phase({"empty": 1}),), 10, "no samples"),
        ((Phase({"a": 1, "b": 1e-9}),), 10, "less than one draw in 640"),
    ],
)
def test_impossible_mixtures_are_refused(phases: tuple[Phase, ...], window: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Quotas(Mixture(phases, window), {"a": 10, "b": 10, "empty": 0})


def test_groups_share_what_they_get() -> None:
    groups = {"ocr": {"pages": 6, "charts": 3, "scenes": 1}}
    mixture = Mixture((Phase({"ocr": 70, "general": 20, "text": 10}),), 1000, groups)
    quotas = Quotas(mixture, dict.fromkeys(["pages", "charts", "scenes", "general", "text"], 5))
    expected = {"pages": 420, "charts": 210, "scenes": 70, "general": 200, "text": 100}
    for window in (0, 1, 77):
        assert dict(zip(quotas.names, quotas.of(window).tolist(), strict=True)) == expected
    assert quotas.history() == [
        {"first_window": 0, "weights": {"charts": 21, "general": 20, "pages": 42, "scenes": 7, "text": 10}}
    ]


@settings(deadline=None, max_examples=20)
@given(weights_of_some, st.floats(0.01, 100), st.integers(100, 2000))
def test_a_group_is_exactly_its_weight(shares: list[float], weight: float, window: int) -> None:
    names = [f"m{i}" for i in range(len(shares))]
    mixture = Mixture(
        (Phase({"g": weight, "other": 1}),), window, {"g": dict(zip(names, shares, strict=True))}
    )
    try:
        quotas = Quotas(mixture, dict.fromkeys([*names, "other"], 10))
    except ConfigError as error:
        assert "less than one draw" in str(error)
        return
    uses = dict(zip(quotas.names, quotas.uses_before(CYCLE).tolist(), strict=True))
    group = sum(uses[name] for name in names)
    # Largest remainder over the members: less than one draw each from the exact share.
    assert abs(group - CYCLE * window * weight / (weight + 1)) < len(names) + 1


@pytest.mark.parametrize(
    ("groups", "weights", "sentence"),
    [
        (
            {"g": {"a": 1, "nothing": 1}},
            {"g": 1},
            "group g names nothing, but the datasets are a, b and the groups g",
        ),
        ({"g": {"a": 1}}, {"h": 1}, "phase 0 has a weight for h, but the datasets are a, b and the groups g"),
        ({"g": {"a": 1}}, {"g": 1, "a": 1}, "dataset a has two weights in phase 0"),
        ({"g": {"a": 1}, "h": {"a": 1, "b": 1}}, {"g": 1, "h": 1}, "dataset a has two weights"),
        ({"a": {"b": 1}}, {"a": 1}, "a is a group and a dataset"),
        ({"g": {"a": 0}}, {"g": 1}, "all weights of group g are 0"),
        ({"g": {}}, {"g": 1}, "all weights of group g are 0"),
        ({"g": {"a": -1}}, {"g": 1}, "weight of a in group g is -1"),
        ({"g": {"a": "much"}}, {"g": 1}, "weight of a in group g is much; it must be 0 or more"),
        ({"g": 3}, {"g": 1}, "group g is 3; give its datasets and shares"),
    ],
)
def test_impossible_groups_are_refused(
    groups: dict[str, Any], weights: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Quotas(Mixture((Phase(weights),), 10, groups), {"a": 10, "b": 10})


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any), st.integers(1, 20))
def test_one_pass_is_every_sample_in_order(sizes: list[int], window: int) -> None:
    draws = OnePassDraws({f"d{number}": size for number, size in enumerate(sizes)}, window)
    assert draws.windows is not None
    tables = [draws.window(number) for number in range(draws.windows)]
    seen = [
        pair for table in tables for pair in zip(table.source.tolist(), table.sample.tolist(), strict=True)
    ]
    assert seen == [(number, i) for number, size in enumerate(sizes) for i in range(size)]
    assert set(draws.epochs(draws.windows).values()) <= {0.0, 1.0}
