"""The line F1 as the public Slow Perception scorer computes it, for comparison with published numbers only.

Predicted lines on one straight line become one line, from the first to the last of their ends; lines are then
matched greedily, in the order of the prediction, where the mean of the overlaps (intersection over union) of their x
and y intervals is above 0.75. Precision, recall and F1 are those of a figure; their means over all figures are
published, for all lines and apart for those shorter than 8 units and the others.

Known defects, kept on purpose:
- an exactly horizontal or vertical line has no extent in one axis, overlaps itself with 0.5 only and never matches;
- the two diagonals of one box overlap with 1 and match;
- lines are joined even where a gap is between them, but vertical ones never: of two at the same place the later
  one replaces the earlier;
- ends are compared by x, then y, but those of the first line are taken as they are told: one that is told from right
  to left loses its ends when another joins it;
- a figure without lines (short lines, long lines) has 0 in everything, also where nothing was predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.metrics.figure_text import FigureError, Position, read_figure
from evaluation.metrics.words import Overlap

THRESHOLD = 0.75
SHORT = 8.0
"""Length in units of the figure from which on a line is long."""
_SAME = 1e-4  # slopes and intercepts that differ by less are equal

Segment = tuple[Position, Position]


def slow_perception_compat(prediction: str, truth: str) -> dict[str, Overlap]:
    """Compares the lines of two figures told as dictionaries; a malformed prediction is 0 in everything.

    Returns:
        Precision and recall of this figure for "all", "short" and "long" lines.

    Raises:
        FigureError: the truth is malformed.
    """
    true = [line.ends for line in read_figure(truth).lines]
    try:
        predicted = merged([line.ends for line in read_figure(prediction).lines])
    except FigureError:
        predicted = []
    sides = [{"all": lines, **_by_length(lines)} for lines in (predicted, true)]
    return {name: greedy_overlap(sides[0][name], sides[1][name]) for name in sides[0]}


def greedy_overlap(predicted: Sequence[Segment], true: Sequence[Segment]) -> Overlap:
    """Every predicted line takes the most similar true line that is left, if it is similar enough."""
    left = list(true)
    agreeing = 0
    for segment in predicted:
        best = max(left, key=lambda other: similarity(segment, other), default=None)
        if best is not None and similarity(segment, best) > THRESHOLD:
            left.remove(best)
            agreeing += 1
    return Overlap(
        agreeing / len(predicted) if predicted else 0.0,
        agreeing / len(true) if true else 0.0,
    )


def similarity(first: Segment, second: Segment) -> float:
    """Mean of the overlaps of the x intervals and of the y intervals, 0 to 1."""
    return sum(_interval_overlap(first, second, axis) for axis in (0, 1)) / 2


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """One line for all on the same straight line, in the order in which these appear."""
    lines: dict[tuple[float, float], Segment] = {}
    for start, end in segments:
        slope, intercept = _straight_line(start, end)
        # The difference of two infinite slopes is no number, so a vertical line is never found.
        same = (k for k in lines if abs(slope - k[0]) < _SAME and abs(intercept - k[1]) < _SAME)
        known = next(same, None)
        if known is None:
            lines[slope, intercept] = (start, end)
        else:
            first, last = lines[known]
            lines[known] = (min(first, start, end), max(last, start, end))
    return list(lines.values())


def _straight_line(start: Position, end: Position) -> tuple[float, float]:
    """(slope, y at x = 0); of a vertical line (inf, x)."""
    if start[0] == end[0]:
        return math.inf, start[0]
    slope = (end[1] - start[1]) / (end[0] - start[0])
    return slope, start[1] - slope * start[0]


def _by_length(segments: list[Segment]) -> dict[str, list[Segment]]:
    return {
        "short": [segment for segment in segments if math.dist(*segment) < SHORT],
        "long": [segment for segment in segments if math.dist(*segment) >= SHORT],
    }


def _interval_overlap(first: Segment, second: Segment, axis: int) -> float:
    (a, b), (c, d) = (sorted(point[axis] for point in segment) for segment in (first, second))
    union = max(b, d) - min(a, c)
    return max(0.0, min(b, d) - max(a, c)) / union if union > 0 else 0.0
