"""Charts as the public scripts of RMS (DePlot) and SCRM (OneChart) score them, for comparison with published numbers.

`charts` has the sound versions; this is what the scripts compute from the cells of a table, defects included.

*RMS*: all text in lower case; a data point is "row column" with its value; a name that comes twice keeps its last
value. Names are assigned by their normalised edit distance (above 0.5 counts as 1). A pair is worth the similarity
of its names times that of its values: 1 - relative error below 0.1 where both are numbers and the true one is not 0
("5%" is 0.05, "1,000" is no number), else 1 for equal texts and their similarity for others. Of the prediction and its
transpose the one with the larger F1 counts. Nothing predicted has precision 1 and recall 0, nothing true precision 0
and recall 1. What the script reports as F1 is the recall.

*SCRM*: lower case; all but digits, "." and "-" is taken out of the values; equal data points are one. A predicted
point agrees with any true one (not one to one) whose value is within the tolerance and whose two names, written as one
text, are within the edits, or are a part of the predicted ones, or hold them. Values that are no numbers count as part
of the text. The score is agreeing points / (all points - those that agree without being equal). The names of a point
are put into alphabetical order, in both tables, as far as the shorter one reaches; a table of two columns is what the
script calls a dictionary, its points have the name "value". Its AP leaves unreadable answers out, and is then
multiplied by their share: here they are 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from evaluation.metrics.charts import MAX_POINTS, NUMBER_THETA, TEXT_THETA, TOLERANCES
from evaluation.metrics.table_tree import TableError, grid, read_table
from evaluation.metrics.words import Overlap

THRESHOLDS = np.arange(0.5, 1, 0.05)
"""As the script has them: its 0.6 is 0.6000000000000001, which a score of 0.6 does not reach."""

Rows = Sequence[Sequence[str]]
Triple = tuple[str, str, float | str]
"""Two names and a value."""


@dataclass(frozen=True)
class ChartCompatScore:
    """One chart."""

    rms: Overlap
    """The script's precision and recall; it reports the recall as F1, too."""
    scrm: dict[str, float]
    """What the chart adds to the script's mAP, by tolerance."""


def score_chart_compat(prediction: str, truth: str) -> ChartCompatScore:
    """Compares two HTML tables. TableError when the truth is none."""
    true = _rows(truth)
    try:
        predicted = _rows(prediction)
    except TableError:
        predicted = []
    scrm = intersection_over_union(triples(predicted), triples(true))
    return ChartCompatScore(
        rms=relative_mapping(predicted, true),
        scrm={name: float((score >= THRESHOLDS).mean()) for name, score in scrm.items()} if predicted else
        dict.fromkeys(TOLERANCES, 0.0),
    )  # fmt: skip


def _rows(text: str) -> list[list[str]]:
    rows = grid(read_table(text))
    if len(rows) * len(rows[0]) > MAX_POINTS:
        raise TableError(f"a chart of more than {MAX_POINTS} cells")
    return rows


def relative_mapping(predicted: Rows, true: Rows) -> Overlap:
    """Precision and recall of the prediction or its transpose, whichever has the larger F1."""
    turned = [list(column) for column in zip(*predicted, strict=True)]
    return max((_mapping(rows, true) for rows in (turned, predicted)), key=lambda score: score.f1)


def _named_values(rows: Rows) -> dict[str, str]:
    lower = [[cell.lower() for cell in row] for row in rows]
    return {
        f"{row[0]} {column}": value
        for row in lower[1:]
        for column, value in zip(lower[0][1:], row[1:], strict=True)
    }


def _mapping(predicted_rows: Rows, true_rows: Rows) -> Overlap:
    predicted, true = _named_values(predicted_rows), _named_values(true_rows)
    if not predicted or not true:
        return Overlap(float(not predicted), float(not true))
    distances = process.cdist(
        list(true), list(predicted), scorer=Levenshtein.normalized_distance, dtype=np.float64
    )
    distances[distances > TEXT_THETA] = 1.0
    values, told = list(true.values()), list(predicted.values())
    worth = sum(
        (1 - distances[i, j]) * _value_similarity(told[j], values[i])
        for i, j in zip(*linear_sum_assignment(distances), strict=True)
    )
    return Overlap(float(worth) / len(predicted), float(worth) / len(true))


def _value_similarity(predicted: str, true: str) -> float:
    left, right = _number(predicted), _number(true)
    if left is not None and right:
        error = abs((right - left) / right)
        return 1 - error if error < NUMBER_THETA else 0.0
    if predicted == true:
        return 1.0
    distance = Levenshtein.normalized_distance(predicted, true)
    return 1 - distance if distance <= TEXT_THETA else 0.0


def _number(text: str) -> float | None:
    """What Python reads as a number, a per cent sign divided out."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def triples(rows: Rows) -> list[Triple]:
    """The data points of a table, row by row; cells without text hold none."""
    points: list[Triple] = []
    for row in rows[1:]:
        for column, cell in zip(rows[0][1:], row[1:], strict=True):
            if cell:
                name = "value" if len(row) == 2 else _plain(column)
                points.append((_plain(row[0]), name, _value(cell)))
    return points


def _plain(name: str) -> str:
    return name.strip().removesuffix(":").lower()


def _value(cell: str) -> float | str:
    text = re.sub(r"[^\d.-]", "", cell)
    try:
        return float(text)
    except ValueError:
        return text


def intersection_over_union(predicted: Sequence[Triple], true: Sequence[Triple]) -> Mapping[str, float]:
    """The script's score of a chart by tolerance, 1 for two charts without points (where the script divides by 0)."""
    told, right = _in_order(predicted, true)
    if not told or not right:
        return dict.fromkeys(TOLERANCES, float(not told and not right))
    equal = {*told} & {*right}
    scores = {}
    for name, agreeing in _agreeing(told, right).items():
        softly = sum(told[i] not in equal for i in agreeing)
        scores[name] = len(agreeing) / (len(told) + len(right) - len(equal) - softly)
    return scores


def _in_order(predicted: Sequence[Triple], true: Sequence[Triple]) -> tuple[list[Triple], list[Triple]]:
    """Both sides without repetitions, the names of points at the same place of both lists sorted."""
    told, right = list(predicted), list(true)
    for i, (point, other) in enumerate(zip(predicted, true, strict=False)):
        names = (point[0], "value") if other[1] == "value" and "value" not in point[:2] else point[:2]
        told[i] = (min(names), max(names), point[2])
        right[i] = (min(other[:2]), max(other[:2]), other[2])
    return list(dict.fromkeys(told)), list(dict.fromkeys(right))


def _agreeing(told: Sequence[Triple], right: Sequence[Triple]) -> dict[str, list[int]]:
    """Tolerance to the predicted points that agree with any true one."""
    names = [[point[0] + point[1] for point in points] for points in (told, right)]
    texts = [["".join(map(str, point)) for point in points] for points in (told, right)]
    name_edits, text_edits = (
        process.cdist(left, others, scorer=Levenshtein.distance, dtype=np.int32)
        for left, others in (names, texts)
    )
    left, others = _numbers(told)[:, None], _numbers(right)
    errors = np.abs(left - others) / (np.abs(others) + 1e-6)  # NaN where one of both is a text
    part = np.zeros(errors.shape, dtype=bool)  # of the one name in the other, asked where it may matter
    for i, j in zip(*np.nonzero(errors <= max(relative for _, relative in TOLERANCES.values())), strict=True):
        part[i, j] = names[0][i] in names[1][j] or names[1][j] in names[0][i]
    agreeing = {}
    for tolerance, (edits, relative) in TOLERANCES.items():
        as_numbers = (errors <= relative) & ((name_edits <= edits) | part)
        as_texts = np.isnan(errors) & (text_edits <= edits)
        agreeing[tolerance] = np.flatnonzero((as_numbers | as_texts).any(axis=1)).tolist()
    return agreeing


def _numbers(points: Sequence[Triple]) -> np.ndarray:
    return np.array([point[2] if isinstance(point[2], float) else np.nan for point in points])
