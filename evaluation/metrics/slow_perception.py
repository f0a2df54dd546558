"""The line F1 as the public Slow Perception scorer computes it, for comparison with published numbers only.

Collinear predicted lines that touch are merged; lines are matched greedily, in the order of the prediction,
where the mean of the overlaps (intersection over union) of their x and y intervals reaches 0.75. Known
defects, kept on purpose: an exactly horizontal or vertical line has no extent in one axis, overlaps itself
with 0.5 only and never matches; the two diagonals of one box overlap with 1 and match.
"""

from __future__ import annotations

import math

from evaluation.metrics.figure_text import FigureError, Position, read_figure
from evaluation.metrics.geometry import point_to_segment
from evaluation.metrics.words import Overlap, overlap

THRESHOLD = 0.75
SHORT = 8.0  # units; the paper reports lines shorter than this, and the others, apart too
_TOUCH = 1e-6

Segment = tuple[Position, Position]


def slow_perception_compat(prediction: str, truth: str) -> Overlap:
    """Precision and recall of lines; a malformed prediction is 0. FigureError when the truth is malformed."""
    true = [line.ends for line in read_figure(truth).lines]
    try:
        predicted = merged([line.ends for line in read_figure(prediction).lines])
    except FigureError:
        return Overlap(0.0, 0.0)
    return greedy_overlap(predicted, true)


def by_length(segments: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """(short, long) segments, split at `SHORT` units."""
    short = [segment for segment in segments if math.dist(*segment) < SHORT]
    return short, [segment for segment in segments if math.dist(*segment) >= SHORT]


def greedy_overlap(predicted: list[Segment], true: list[Segment]) -> Overlap:
    """Every predicted line takes the most similar true line that is left, if it is similar enough."""
    left = list(true)
    agreeing = 0
    for segment in predicted:
        best = max(left, key=lambda other: similarity(segment, other), default=None)
        if best is not None and similarity(segment, best) >= THRESHOLD:
            left.remove(best)
            agreeing += 1
    return overlap(agreeing, len(predicted), len(true))


def similarity(first: Segment, second: Segment) -> float:
    """Mean of the overlaps of the x intervals and of the y intervals, 0 to 1."""
    return sum(_interval_overlap(first, second, axis) for axis in (0, 1)) / 2


def merged(segments: list[Segment]) -> list[Segment]:
    """Joins lines that lie on one straight line and share an end, until none do."""
    result: list[Segment] = []
    for segment in segments:
        joined = segment
        for other in [*result]:
            union = _joined(joined, other)
            if union is not None:
                result.remove(other)
                joined = union
        result.append(joined)
    return result


def _joined(first: Segment, second: Segment) -> Segment | None:
    if not any(math.dist(a, b) <= _TOUCH for a in first for b in second):
        return None
    ends = [*first, *second]
    start, end = max(((a, b) for a in ends for b in ends), key=lambda pair: math.dist(*pair))
    straight = all(point_to_segment(point, start, end) <= _TOUCH for point in ends)
    return (start, end) if straight else None


def _interval_overlap(first: Segment, second: Segment, axis: int) -> float:
    (a, b), (c, d) = (sorted(point[axis] for point in segment) for segment in (first, second))
    union = max(b, d) - min(a, c)
    return max(0.0, min(b, d) - max(a, c)) / union if union > 0 else 0.0
