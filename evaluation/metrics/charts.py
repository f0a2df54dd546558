"""Charts read as tables: SCRM (StructChart, OneChart) and RMS (DePlot) on (row, column, value) data points.

A chart's answer is an HTML table whose first row names the columns and whose first column names the rows; a
data point is (row name, column name, value). Both metrics take a table and its transpose for the same chart.

*SCRM*: two data points agree when their names differ by at most `edits` characters together and their values
by at most `relative` of the true value (texts must be equal). One-to-one matching; a chart's score is the
intersection over union of data points. Average precision at t is the share of charts with a score of t or
more; mAP is its mean over t = 0.50, 0.55, ..., 0.95. Unlike in the public script, a name must agree as a whole
(there a part is enough), repeated data points count each, a unit must not be lost ("5 %" is not 5), and a
prediction that is no table counts as 0 instead of being left out.

*RMS*: data points are assigned by the normalised edit distance of their names; an assigned pair is worth
(1 - name distance) x (1 - value distance), a name distance above 0.5 and a relative value error above 0.1
count as 1. Precision and recall divide the sum by the predicted and the true data points.

What the public scripts compute instead is in `charts_compat`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from evaluation.metrics.table_tree import TableError, grid, read_table
from evaluation.metrics.words import Overlap, overlap

TOLERANCES = {"strict": (0, 0.0), "slight": (2, 0.05), "high": (5, 0.10)}
"""SCRM: (edits in the names, relative error of the value)."""
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
TEXT_THETA, NUMBER_THETA = 0.5, 0.1
MAX_POINTS = 4_000

_NUMBER = re.compile(r"([-+\u2212]?)\s*((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE]([-+]?\d{1,3}))?")


@dataclass(frozen=True)
class Point:
    """A data point of a chart."""

    row: str
    column: str
    value: str

    def transposed(self) -> Point:
        """The same point of the table whose rows are the columns."""
        return Point(self.column, self.row, self.value)


@dataclass(frozen=True)
class ChartScore:
    """One chart; a prediction that is no table is 0 in everything."""

    scrm: dict[str, float]
    """Intersection over union by tolerance."""
    rms: Overlap
    malformed: bool
    """The prediction holds no usable table."""


def average_precision(score: float) -> float:
    """What one chart's score adds to mAP: the share of the thresholds that it reaches."""
    return sum(score >= threshold - 1e-9 for threshold in THRESHOLDS) / len(THRESHOLDS)


def data_points(text: str) -> list[Point]:
    """The data points of a table; cells without text hold none. TableError if there is no table."""
    rows = grid(read_table(text))
    points = [
        Point(row[0], column, value)
        for row in rows[1:]
        for column, value in zip(rows[0][1:], row[1:], strict=True)
        if value
    ]
    if len(points) > MAX_POINTS:
        raise TableError(f"a chart of more than {MAX_POINTS} data points")
    return points


def score_chart(prediction: str, truth: str) -> ChartScore:
    """SCRM and RMS of two tables. TableError when the truth is none."""
    true = data_points(truth)
    try:
        predicted = data_points(prediction)
    except TableError:
        return ChartScore(dict.fromkeys(TOLERANCES, 0.0), Overlap(0.0, 0.0), malformed=True)
    both = predicted, [point.transposed() for point in predicted]
    rms = max((relative_mapping(points, true) for points in both), key=lambda score: score.f1)
    scrm = {
        name: max(intersection_over_union(points, true, *limits) for points in both)
        for name, limits in TOLERANCES.items()
    }
    return ChartScore(scrm, rms, malformed=False)


def intersection_over_union(predicted: list[Point], true: list[Point], edits: int, relative: float) -> float:
    """Agreeing data points / all different ones; 1 when both charts are empty."""
    if not predicted or not true:
        return float(not predicted and not true)
    distances = [
        process.cdist([p[k] for p in names_of(predicted)], [t[k] for t in names_of(true)],
                      scorer=Levenshtein.distance, dtype=np.int32)
        for k in (0, 1)
    ]  # fmt: skip
    agree = distances[0] + distances[1] <= edits
    for i, j in zip(*np.nonzero(agree), strict=True):
        agree[i, j] = _same_value(predicted[i].value, true[j].value, relative)
    matched = int((maximum_bipartite_matching(csr_array(agree), perm_type="column") >= 0).sum())
    return matched / (len(predicted) + len(true) - matched)


def names_of(points: list[Point]) -> list[tuple[str, str]]:
    """(row, column) of every point."""
    return [(point.row, point.column) for point in points]


def relative_mapping(predicted: list[Point], true: list[Point]) -> Overlap:
    """RMS precision and recall of data points, in this orientation."""
    if not predicted or not true:
        return overlap(0, len(predicted), len(true))
    distances = process.cdist(
        [f"{row} {column}" for row, column in names_of(predicted)],
        [f"{row} {column}" for row, column in names_of(true)],
        scorer=Levenshtein.normalized_distance,
        dtype=np.float64,
    )
    distances[distances > TEXT_THETA] = 1.0
    chosen = zip(*linear_sum_assignment(distances), strict=True)
    worth = sum(
        (1 - distances[i, j]) * (1 - value_distance(predicted[i].value, true[j].value)) for i, j in chosen
    )
    return overlap(float(worth), len(predicted), len(true))


def value_distance(predicted: str, true: str) -> float:
    """0 (equal) to 1: relative error of numbers, normalised edit distance of texts, cut at the two thetas."""
    left, right = number(predicted), number(true)
    if left is not None and right is not None and left[1] == right[1]:
        error = _relative_error(left[0], right[0])
        return error if error <= NUMBER_THETA else 1.0
    distance = Levenshtein.normalized_distance(predicted, true)
    return distance if distance <= TEXT_THETA else 1.0


def number(text: str) -> tuple[float, str] | None:
    """A cell as (number, unit): "-1,200.5 kg" is (-1200.5, "kg"), "$ 5" is (5, "$"); None when it is none."""
    found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        return None
    sign, digits, exponent = found[0].groups()
    value = float(digits.replace(",", "")) * 10.0 ** int(exponent or 0)
    unit = "".join((text[: found[0].start()] + text[found[0].end() :]).split())
    return (-value if sign in ("-", "\u2212") else value), unit


def _same_value(predicted: str, true: str, relative: float) -> bool:
    left, right = number(predicted), number(true)
    if left is None or right is None:
        return predicted == true
    return left[1] == right[1] and _relative_error(left[0], right[0]) <= relative + 1e-12


def _relative_error(predicted: float, true: float) -> float:
    if predicted == true:
        return 0.0
    return abs(predicted - true) / abs(true) if true else math.inf
