from __future__ import annotations

import pytest

from data_engine.random_stream import Draws, Stream, permuted

PINNED_BITS = [4436580454283541452, 2347710986633690617]
PINNED_INTEGERS = [3, 5, 3, 8, 2, 5, 9, 1]


def test_draws_are_the_same_for_ever() -> None:
    """Pinned: a change here changes every dataset and needs a new ENGINE_VERSION."""
    stream = Draws(seed=1, kind="card", index=2).stream("content")
    assert [stream.bits() for _ in range(2)] == PINNED_BITS
    assert [stream.integer(0, 9) for _ in range(8)] == PINNED_INTEGERS


def test_concerns_and_indices_have_streams_of_their_own() -> None:
    first = {Draws(1, "card", index).stream(concern).bits() for index in range(50) for concern in "abc"}
    assert len(first) == 150


def test_draws_are_spread_evenly() -> None:
    stream = Stream("spread")
    counts = [0] * 10
    for _ in range(20_000):
        counts[stream.integer(0, 9)] += 1
    assert max(counts) < 2_200
    assert min(counts) > 1_800
    weighted = [stream.weighted({"a": 3.0, "b": 1.0, "c": 0.0}) for _ in range(4_000)]
    assert 2_850 < weighted.count("a") < 3_150
    assert "c" not in weighted


def test_sample_takes_each_value_once() -> None:
    stream = Stream("sample")
    for _ in range(50):
        taken = stream.sample(range(10), 10)
        assert sorted(taken) == list(range(10))
    with pytest.raises(ValueError, match="cannot draw 3 different values out of 2"):
        stream.sample("ab", 3)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 4999])
def test_permuted_is_a_permutation(count: int) -> None:
    places = [permuted(place, count, "name") for place in range(count)]
    assert sorted(places) == list(range(count))
    if count > 50:
        assert sum(place == original for original, place in enumerate(places)) < count / 10
