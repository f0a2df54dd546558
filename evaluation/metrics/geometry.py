"""Plane figures: F1 of lines, circles and named points under a distance, each matched at most once.

Two lines are the same when they lie within `TOLERANCE` units of each other (the picture of our figures is 20
units wide): both ends, and every further point that the prediction tells must lie that near to the true line.
Lines have no direction. Circles agree when centre and radius do, named points when letter and place do. The
matching is the one with the most matches, and among those the nearest (linear assignment).

This replaces the public Slow Perception scorer, in which an exactly horizontal line never matches itself and
the two diagonals of a box match each other; `slow_perception` gives its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from evaluation.metrics.figure_text import FigureError, Line, PlaneFigure, Position, read_figure
from evaluation.metrics.words import Overlap, overlap

TOLERANCE = 0.5  # units of the figure

T = TypeVar("T")


@dataclass(frozen=True)
class GeometryScore:
    """One figure; a malformed prediction is 0 in everything."""

    lines: Overlap
    """Places of the lines."""
    typed_lines: Overlap
    """Lines whose type (drawn through, dashed) is right as well."""
    elements: Overlap
    """Lines, circles and named points together."""
    malformed: bool


def score_figure(prediction: str, truth: str, tolerance: float = TOLERANCE) -> GeometryScore:
    """Compares two figures told as dictionaries. FigureError when the truth is none."""
    true = read_figure(truth)
    try:
        predicted = read_figure(prediction)
    except FigureError:
        nothing = Overlap(0.0, 0.0)
        return GeometryScore(nothing, nothing, nothing, malformed=True)
    return compare_figures(predicted, true, tolerance)


def compare_figures(predicted: PlaneFigure, true: PlaneFigure, tolerance: float) -> GeometryScore:
    """The same for figures that were read already."""
    lines = matches(predicted.lines, true.lines, line_distance, tolerance)
    typed = sum(
        len(matches(of_kind(predicted, kind), of_kind(true, kind), line_distance, tolerance))
        for kind in {line.kind for line in true.lines}
    )
    circles = matches(predicted.circles, true.circles, _circle_distance, tolerance)
    names = matches(predicted.names, true.names, _name_distance, tolerance)
    sizes = len(predicted.lines), len(true.lines)
    return GeometryScore(
        lines=overlap(len(lines), *sizes),
        typed_lines=overlap(typed, *sizes),
        elements=overlap(len(lines) + len(circles) + len(names), _elements(predicted), _elements(true)),
        malformed=False,
    )


def of_kind(figure: PlaneFigure, kind: str) -> list[Line]:
    """The lines of one type."""
    return [line for line in figure.lines if line.kind == kind]


def matches(
    predicted: Sequence[T], true: Sequence[T], distance: Callable[[T, T], float], tolerance: float
) -> list[tuple[int, int]]:
    """(predicted, true) indices of the largest one-to-one matching within the tolerance, nearest first choice."""
    if not predicted or not true:
        return []
    distances = np.array([[distance(p, t) for t in true] for p in predicted])
    near = distances <= tolerance + 1e-9
    # One pair too far costs more than all near ones together, so no match is given up for a nearer one.
    costs = np.where(near, distances, (tolerance + 1) * (min(distances.shape) + 1))
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(costs), strict=True) if near[i, j]]


def line_distance(predicted: Line, true: Line) -> float:
    """The farthest that the predicted ends and points lie from the true ends and line; no direction."""
    a, b = predicted.ends
    c, d = true.ends
    ends = min(max(math.dist(a, c), math.dist(b, d)), max(math.dist(a, d), math.dist(b, c)))
    return max([ends, *(point_to_segment(point, c, d) for point in predicted.points[1:-1])])


def point_to_segment(point: Position, start: Position, end: Position) -> float:
    """Distance of a point to the nearest place of a segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    square = dx * dx + dy * dy
    along = ((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / square if square else 0.0
    along = min(1.0, max(0.0, along))
    return math.dist(point, (start[0] + along * dx, start[1] + along * dy))


def _circle_distance(predicted: tuple[Position, float], true: tuple[Position, float]) -> float:
    return max(math.dist(predicted[0], true[0]), abs(predicted[1] - true[1]))


def _name_distance(predicted: tuple[str, Position], true: tuple[str, Position]) -> float:
    return math.dist(predicted[1], true[1]) if predicted[0] == true[0] else math.inf


def _elements(figure: PlaneFigure) -> int:
    return len(figure.lines) + len(figure.circles) + len(figure.names)
