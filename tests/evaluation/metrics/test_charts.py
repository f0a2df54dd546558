from __future__ import annotations

import itertools
import random

import pytest

from evaluation.metrics.charts import (
    Point,
    average_precision,
    data_points,
    intersection_over_union,
    number,
    relative_mapping,
    score_chart,
    value_distance,
)
from evaluation.metrics.table_tree import TableError
from tests.evaluation.metrics.test_tables import html
from tests.evaluation.metrics.test_text import slow_edit_distance

CHART = html([["", "2023", "2024"], ["Apples", "10", "20"], ["Pears", "5.5", "1,000"]])


def transposed(rows: list[list[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def random_points(generator: random.Random) -> list[Point]:
    def name() -> str:
        return "".join(generator.choices("ab", k=generator.randrange(1, 4)))

    return [
        Point(name(), name(), str(generator.randrange(90, 110))) for _ in range(generator.randrange(1, 5))
    ]


def agree(p: Point, t: Point, edits: int, relative: float) -> bool:
    off = abs(float(p.value) - float(t.value)) / float(t.value)
    return (
        slow_edit_distance(p.row, t.row) + slow_edit_distance(p.column, t.column) <= edits and off <= relative
    )


def best_assignments(left: list[Point], right: list[Point]) -> list[list[tuple[Point, Point]]]:
    """Every full one-to-one assignment of the shorter list."""
    if len(left) <= len(right):
        return [list(zip(left, chosen, strict=True)) for chosen in itertools.permutations(right, len(left))]
    return [list(zip(chosen, right, strict=True)) for chosen in itertools.permutations(left, len(right))]


@pytest.mark.parametrize(("edits", "relative"), [(0, 0.0), (2, 0.05), (5, 0.1)])
def test_scrm_equals_trying_every_assignment(edits: int, relative: float) -> None:
    generator = random.Random(edits)
    for _ in range(100):
        predicted, true = random_points(generator), random_points(generator)
        most = max(
            sum(agree(p, t, edits, relative) for p, t in pairs) for pairs in best_assignments(predicted, true)
        )
        expected = most / (len(predicted) + len(true) - most)
        assert intersection_over_union(predicted, true, edits, relative) == pytest.approx(expected)


def slow_name_distance(p: Point, t: Point) -> float:
    left, right = f"{p.row} {p.column}", f"{t.row} {t.column}"
    distance = slow_edit_distance(left, right) / max(len(left), len(right))
    return distance if distance <= 0.5 else 1.0


def test_rms_equals_trying_every_assignment() -> None:
    generator = random.Random(7)
    for _ in range(220):
        predicted, true = random_points(generator), random_points(generator)
        ranked = [
            (round(sum(slow_name_distance(p, t) for p, t in pairs), 9), pairs)
            for pairs in best_assignments(predicted, true)
        ]
        least = min(cost for cost, _ in ranked)
        # Several assignments may be the nearest one: the precision is that of one of them.
        possible = []
        for cost, pairs in ranked:
            if cost > least:
                continue
            worth = 0.0
            for p, t in pairs:
                off = abs(float(p.value) - float(t.value)) / float(t.value)
                worth += (1 - slow_name_distance(p, t)) * (1 - (off if off <= 0.1 else 1))
            possible.append(worth)
        ours = relative_mapping(predicted, true)
        assert any(ours.precision == pytest.approx(worth / len(predicted)) for worth in possible)
        assert ours.recall * len(true) == pytest.approx(ours.precision * len(predicted))


def test_a_right_chart_and_its_transpose_are_right() -> None:
    rows = [["", "2023", "2024"], ["Apples", "10", "20"], ["Pears", "5.5", "1,000"]]
    for prediction in (CHART, html(transposed(rows)), html([rows[0], rows[2], rows[1]])):
        score = score_chart(prediction, CHART)
        assert (score.scrm, score.rms.f1) == ({"strict": 1.0, "slight": 1.0, "high": 1.0}, 1.0)


def test_tolerances_forgive_what_they_say() -> None:
    near = CHART.replace("Apples", "Aples").replace(">20<", ">20.9<")
    score = score_chart(near, CHART)
    assert score.scrm["strict"] == pytest.approx(2 / 6)
    assert score.scrm["slight"] == 1.0
    assert score_chart(CHART.replace(">10<", ">10.9<"), CHART).scrm == {
        "strict": 0.6,
        "slight": 0.6,
        "high": 1.0,
    }


def test_duplicate_rows_are_wrong_points() -> None:
    twice = CHART.replace("</table>", "<tr><td>Pears</td><td>5.5</td><td>1,000</td></tr></table>")
    score = score_chart(twice, CHART)
    assert score.scrm["strict"] == pytest.approx(4 / 6)
    assert (score.rms.precision, score.rms.recall) == pytest.approx((4 / 6, 1.0))
    assert score.rms.f1 == pytest.approx(0.8)


def test_a_chart_of_other_things_is_wrong() -> None:
    score = score_chart(html([["", "Height"], ["Everest", "8849"]]), CHART)
    assert (score.rms.f1, score.malformed) == (0.0, False)
    assert score.scrm == {"strict": 0.0, "slight": 0.0, "high": 0.0}


def test_charts_that_are_none_are_wrong() -> None:
    for text in ("", "The chart shows apples.", "<table>"):
        score = score_chart(text, CHART)
        assert (score.malformed, score.rms.f1, max(score.scrm.values())) == (True, 0.0, 0.0)
    with pytest.raises(TableError):
        score_chart(CHART, "none")
    empty = html([["", "a"], ["b", ""]])
    assert score_chart(empty, empty).scrm["strict"] == score_chart(empty, empty).rms.f1 == 1.0
    assert score_chart(CHART, empty).scrm["strict"] == score_chart(empty, CHART).rms.f1 == 0.0


def test_numbers_keep_sign_and_unit() -> None:
    assert number("-1,200.5 kg") == (-1200.5, "kg")
    assert number("$ 5") == (5, "$")
    assert number("5e2") == (500, "")
    assert number("12-5") is None and number("none") is None
    assert value_distance("5 %", "5") > 0
    assert value_distance("0", "0.0") == 0 and value_distance("1", "0") == 1


def test_average_precision_counts_the_thresholds_reached() -> None:
    assert [average_precision(score) for score in (0, 0.5, 0.7, 1)] == [0, 0.1, 0.5, 1]
    assert len(data_points(CHART)) == 4
