from __future__ import annotations

import random

import numpy as np
import pytest

from evaluation.metrics.bootstrap import compare, interval, intervals
from evaluation.metrics.words import Overlap, multiset_overlap, set_overlap, words


def slow_overlap(predicted: list[str], true: list[str]) -> tuple[float, float]:
    """Multiset precision and recall by crossing out words one by one."""
    left, agreeing = list(true), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            agreeing += 1
    if not predicted and not true:
        return 1.0, 1.0
    return (agreeing / len(predicted) if predicted else 0.0, agreeing / len(true) if true else 0.0)


def test_overlaps_equal_crossing_out() -> None:
    generator = random.Random(3)
    for _ in range(300):
        predicted, true = ([*map(str, generator.choices(range(6), k=generator.randrange(9)))] for _ in "pt")
        ours = multiset_overlap(predicted, true)
        assert (ours.precision, ours.recall) == pytest.approx(slow_overlap(predicted, true))
        once = set_overlap(predicted, true)
        different = [list(dict.fromkeys(side)) for side in (predicted, true)]
        assert (once.precision, once.recall) == pytest.approx(slow_overlap(*different))


def test_fox_exchanges_precision_and_recall() -> None:
    """The case of the facts: true precision 0.667 and recall 0.5 come out exchanged."""
    ours = set_overlap(["a", "b", "x"], ["a", "b", "c", "d"])
    assert (ours.precision, ours.recall) == pytest.approx((2 / 3, 1 / 2))
    assert (ours.fox_compat.precision, ours.fox_compat.recall) == pytest.approx((1 / 2, 2 / 3))
    assert ours.f1 == ours.fox_compat.f1


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [("", "", (1, 1)), ("", "a", (0, 0)), ("a", "", (0, 0)), ("b", "a", (0, 0)), ("a a a", "a", (1 / 3, 1))],
)
def test_degenerate_overlaps(prediction: str, truth: str, expected: tuple[float, float]) -> None:
    ours = multiset_overlap(words(prediction), words(truth))
    assert (ours.precision, ours.recall) == pytest.approx(expected)
    assert Overlap(0, 0).f1 == 0


def test_words_are_cut_at_white_space_and_chinese_into_characters() -> None:
    assert words("The cat,\n sat") == ["The", "cat,", "sat"]
    assert words("第3页 OCR读") == ["第", "3", "页", "OCR", "读"]


def test_intervals_equal_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    numerators = generator.integers(0, 9, (40, 2)).astype(float)
    denominators = generator.integers(1, 9, (40, 2)).astype(float)
    ours = intervals(numerators, denominators, seed=1, resamples=4000)
    for k in range(2):
        slow = []
        for _ in range(4000):
            drawn = generator.integers(0, 40, 40)
            slow.append(numerators[drawn, k].sum() / denominators[drawn, k].sum())
        assert ours[k].value == pytest.approx(numerators[:, k].sum() / denominators[:, k].sum())
        assert (ours[k].low, ours[k].high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.03)
    assert intervals(numerators, denominators, seed=1) == intervals(numerators, denominators, seed=1)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    found = [interval(generator.normal(3, 1, 60), seed=k, resamples=400) for k in range(150)]
    held = sum(i.low <= 3 <= i.high for i in found if i.low is not None and i.high is not None)
    assert 0.90 <= held / 150 <= 0.99


def test_degenerate_intervals() -> None:
    constant = interval(np.ones(5))
    assert (constant.value, constant.low, constant.high, constant.samples) == (1, 1, 1, 5)
    for nothing in (interval(np.zeros(0)), intervals(np.zeros((3, 1)), np.zeros((3, 1)))[0]):
        assert nothing.value is nothing.low is nothing.high is None
        assert nothing.samples == 0


def test_two_readers_are_better_worse_or_undecided() -> None:
    generator = np.random.default_rng(2)
    ones = np.ones(200)
    hard = generator.uniform(0, 1, 200)  # samples differ far more than the readers do
    better = hard + 0.02 + generator.normal(0, 0.02, 200)
    assert compare((better, ones), (hard, ones)).verdict == "better"
    assert compare((hard, ones), (better, ones)).verdict == "worse"
    assert compare((hard, ones), (better, ones), lower_is_better=True).verdict == "better"
    assert compare((hard, ones), (hard, ones)).verdict == "undecided"
    noisy = compare((hard + generator.normal(0, 0.2, 200), ones), (hard, ones))
    low, high = noisy.difference.low, noisy.difference.high
    assert low is not None and high is not None and high - low > 0.04
