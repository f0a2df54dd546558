from __future__ import annotations

import random

import pytest

from evaluation.metrics.text import (
    aligned_spans,
    character_accuracy,
    exact_match,
    mean_normalised_edit_distance,
    score_text,
)


def slow_edit_distance(left: str, right: str) -> int:
    """The textbook recurrence, for comparison."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def random_pairs(count: int) -> list[tuple[str, str]]:
    generator = random.Random(5)
    return [
        tuple("".join(generator.choices("abcdé漢 ", k=generator.randrange(0, 30))) for _ in range(2))  # type: ignore[misc]
        for _ in range(count)
    ]


def test_edit_distance_equals_the_textbook_recurrence() -> None:
    for prediction, truth in random_pairs(300):
        score = score_text(prediction, truth)
        assert score.edit_distance == slow_edit_distance(prediction, truth)
        longest = max(len(prediction), len(truth), 1)
        assert score.normalised_edit_distance == pytest.approx(score.edit_distance / longest)


@pytest.mark.parametrize(
    ("prediction", "truth", "accuracy", "distance"),
    [
        ("1234", "1234", 1.0, 0.0),
        ("", "1234", 0.0, 1.0),
        ("1234", "", 0.0, 1.0),
        ("", "", 1.0, 0.0),
        ("9999", "1234", 0.0, 1.0),
        ("1243", "1234", 0.5, 0.5),  # a swap of neighbours is two edits
        ("1234123412341234", "1234", 0.0, 0.75),  # running on for ever is not worse than nothing
        ("123", "1234", 0.75, 0.25),
    ],
)
def test_known_answers(prediction: str, truth: str, accuracy: float, distance: float) -> None:
    score = score_text(prediction, truth)
    assert score.character_accuracy == pytest.approx(accuracy)
    assert score.normalised_edit_distance == pytest.approx(distance)
    assert score.exact == (prediction == truth)


def test_a_set_is_weighted_by_its_characters() -> None:
    scores = [score_text("aaaaaaaa", "aaaaaaaa"), score_text("b", "ac")]
    assert character_accuracy(scores) == pytest.approx(1 - 2 / 10)
    assert mean_normalised_edit_distance(scores) == pytest.approx((0 + 1) / 2)
    assert exact_match(scores) == 0.5


def test_an_empty_set_reads_nothing() -> None:
    assert character_accuracy([]) == 0.0
    assert exact_match([]) == 0.0
    assert mean_normalised_edit_distance([]) == 1.0


def test_aligned_spans_rebuild_both_texts_and_count_the_errors() -> None:
    for prediction, truth in random_pairs(100):
        spans = aligned_spans(prediction, truth)
        assert "".join(left for _, left, _ in spans) == prediction
        assert "".join(right for _, _, right in spans) == truth
        errors = sum(max(len(left), len(right)) for kind, left, right in spans if kind != "equal")
        assert errors == score_text(prediction, truth).edit_distance
