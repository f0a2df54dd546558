"""Things made ahead are the things asked for, and failures arrive where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from train.data.prefetch import Prefetcher, made_by


def slow_square(number: int) -> int:
    time.sleep(0.001)
    return number * number


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_any_order_gives_the_same(depth: int) -> None:
    ahead = Prefetcher(made_by(slow_square), depth)
    asked = [0, 1, 2, 9, 10, 3, 4, 4]
    assert [ahead.take(number) for number in asked] == [number**2 for number in asked]
    ahead.close()


@pytest.mark.parametrize("depth", [0, 3])
def test_a_failure_reaches_the_one_who_asks_for_it(depth: int) -> None:
    def make(number: int) -> int:
        if number == 2:
            raise KeyError("two")
        return number

    ahead = Prefetcher(made_by(make), depth)
    assert [ahead.take(0), ahead.take(1)] == [0, 1]
    for _ in range(2):
        with pytest.raises(KeyError, match="two"):
            ahead.take(2)
    assert ahead.take(3) == 3
    ahead.close()


def test_waiting_is_measured_and_threads_end() -> None:
    before = threading.active_count()
    ahead = Prefetcher(made_by(slow_square), 2)
    assert ahead.take(0) == 0
    assert 0 < ahead.waited_seconds < 1
    ahead.close()
    ahead.close()
    assert threading.active_count() == before


def test_the_end() -> None:
    ahead = Prefetcher(made_by(slow_square), 4, end=3)
    assert [ahead.take(number) for number in range(3)] == [0, 1, 4]
    with pytest.raises(IndexError, match="there are 3 things"):
        ahead.take(3)
    ahead.close()
