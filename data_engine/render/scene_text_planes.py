"""Flat signs seen by a camera: homographies, quadrilaterals, which of them meet, and the order they are read in.

A sign lies in a plane of its own, with the origin in its middle, x to the right and y down, in pixels before
perspective. A homography (3 x 3) takes it into the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from data_engine.random_stream import Stream

Quad = tuple[tuple[float, float], ...]
"""Four corners (x, y) in pixels, clockwise from the upper left one as the text is read."""
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""
_STEEPEST = math.radians(60)


def turned(
    stream: Stream, side: float, perspective: float, rotation: float, slant: float = 1.0
) -> np.ndarray:
    """A homography [3, 3] for a plane with a sign of `side` pixels, turned at random, its middle left in the origin.

    `perspective`, 0 to 1, is a share of the steepest angle; `rotation` the largest angle in the plane, in degrees.
    Small angles are drawn more often than large ones. `slant`, 0 to 1, makes those smaller that slant the lines of
    text: with 0 they stay level, and the sign is tilted backwards or forwards alone.
    """
    pitch = perspective * _STEEPEST * _towards_zero(stream)
    yaw = slant * perspective * _STEEPEST * _towards_zero(stream)
    roll = slant * math.radians(rotation) * _towards_zero(stream)
    distance = side * stream.uniform(1.0, 3.0)  # the nearer the camera, the more the lines run together
    # Turned about y, then x, then z: a point (x, y, 0) goes to R (x, y, 0) + (0, 0, distance), and is seen at
    # distance * (X, Y) / Z. Only the first two columns of R are needed.
    sin_x, cos_x, sin_y, cos_y = math.sin(pitch), math.cos(pitch), math.sin(yaw), math.cos(yaw)
    sin_z, cos_z = math.sin(roll), math.cos(roll)
    tilted = ((cos_y, 0.0), (sin_x * sin_y, cos_x), (-cos_x * sin_y, sin_x))
    right = [cos_z * tilted[0][column] - sin_z * tilted[1][column] for column in (0, 1)]
    down = [sin_z * tilted[0][column] + cos_z * tilted[1][column] for column in (0, 1)]
    away = [value / distance for value in tilted[2]]
    return np.array([[*right, 0.0], [*down, 0.0], [*away, 1.0]])


def _towards_zero(stream: Stream) -> float:
    """From -1 to 1."""
    return stream.uniform(-1, 1) * stream.uniform(0.2, 1)


def scaled_and_moved(matrix: np.ndarray, scale: float, x: float, y: float) -> np.ndarray:
    """The homography followed by a scaling about the origin and a shift."""
    return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]]) @ matrix


def moved(matrix: np.ndarray, points: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """Points [N, 2] through a homography."""
    flat = np.asarray(points, np.float64)
    found = flat @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(found[:, :2] / found[:, 2:])


def quad_of(matrix: np.ndarray, box: Box) -> Quad:
    """Where the corners of an upright box of the plane come to lie."""
    left, top, right, bottom = box
    return _seen(matrix, ((left, top), (right, top), (right, bottom), (left, bottom)))


def _seen(matrix: np.ndarray, points: Quad) -> Quad:
    """A few points through a homography, without what numpy takes to begin."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    found = []
    for x, y in points:
        depth = g * x + h * y + i
        found.append(((a * x + b * y + c) / depth, (d * x + e * y + f) / depth))
    return tuple(found)


def bounds(quad: Quad) -> Box:
    """The smallest upright box that holds a quadrilateral."""
    across, down = [x for x, _ in quad], [y for _, y in quad]
    return min(across), min(down), max(across), max(down)


def meet(first: Quad, second: Quad) -> bool:
    """Whether two convex quadrilaterals, clockwise both, share a point: no side of either has the other beyond it."""
    (left, top, right, bottom), (x0, y0, x1, y1) = bounds(first), bounds(second)
    if left > x1 or x0 > right or top > y1 or y0 > bottom:
        return False
    for one, other in ((first, second), (second, first)):
        for (x, y), (next_x, next_y) in zip(one, (*one[1:], one[0]), strict=True):
            along_x, along_y = next_x - x, next_y - y
            if all(along_x * (py - y) < along_y * (px - x) for px, py in other):
                return False
    return True


def upright(quad: Quad, margin: float) -> Quad:
    """The corners of the smallest upright box that holds a quadrilateral, and a margin in pixels around it."""
    left, top, right, bottom = bounds(quad)
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    return (left, top), (right, top), (right, bottom), (left, bottom)


def parted(quads: Sequence[Quad], others: Sequence[Quad] = (), margin: float = 0.0) -> bool:
    """Whether the upright box around each of the `quads` holds nothing of another one, and the boxes of the others
    nothing of them. `margin` in pixels is what a box may be larger, because labels round it."""
    pairs = [*combinations(quads, 2), *((quad, other) for quad in quads for other in others)]
    return not any(
        meet(upright(first, margin), second) or meet(first, upright(second, margin))
        for first, second in pairs
    )


def least_stretch(matrix: np.ndarray, box: Box) -> float:
    """By how much the plane is magnified at least, along x or y, at the corners of a box of it."""
    left, top, right, bottom = box
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    here = _seen(matrix, corners)
    least = math.inf
    for step_x, step_y in ((0.5, 0.0), (0.0, 0.5)):
        beside = _seen(matrix, tuple((x + step_x, y + step_y) for x, y in corners))
        least = min(least, *(2 * math.dist(*pair) for pair in zip(here, beside, strict=True)))
    return least


def in_reading_order(quads: Sequence[Quad], right_to_left: bool) -> list[int]:
    """The numbers of quadrilaterals as a person reads them: bands from top to bottom, columns inside of a band.

    Bands and columns part where no quadrilateral lies with the middle half of its box: signs are not set on lines.
    """
    return _ordered(list(range(len(quads))), [bounds(quad) for quad in quads], right_to_left)


def _ordered(numbers: list[int], boxes: Sequence[Box], right_to_left: bool) -> list[int]:
    if len(numbers) < 2:
        return numbers
    for axis in (1, 0):
        parts = _parted(numbers, boxes, axis)
        if len(parts) > 1:
            backwards = axis == 0 and right_to_left
            return [
                n for part in parts[:: -1 if backwards else 1] for n in _ordered(part, boxes, right_to_left)
            ]
    first = min(numbers, key=lambda number: (boxes[number][1], number))
    return [first, *_ordered([number for number in numbers if number != first], boxes, right_to_left)]


def _parted(numbers: list[int], boxes: Sequence[Box], axis: int) -> list[list[int]]:
    """The groups that the gaps along x (axis 0) or y (axis 1) make, in the order of the axis."""
    spans = []
    for number in numbers:
        low, high = boxes[number][axis], boxes[number][axis + 2]
        spans.append(((3 * low + high) / 4, (low + 3 * high) / 4, number))
    parts: list[list[int]] = []
    reached = -math.inf
    for low, high, number in sorted(spans):
        if low > reached:
            parts.append([])
        parts[-1].append(number)
        reached = max(reached, high)
    return parts
