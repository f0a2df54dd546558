"""Points, lines and circles of the plane: what a pair of compasses and a ruler would find."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def between(start: Point, end: Point, share: float) -> Point:
    """The point at a share of the way; below 0 and above 1 it lies on the extension."""
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def foot_share(point: Point, start: Point, end: Point) -> float:
    """Where the perpendicular from a point meets a line, as a share of the way from start to end."""
    across, up = end[0] - start[0], end[1] - start[1]
    return ((point[0] - start[0]) * across + (point[1] - start[1]) * up) / (across**2 + up**2)


def distance_to_line(point: Point, start: Point, end: Point) -> float:
    """From a point to the endless line through two others."""
    cross = (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
    return abs(cross) / math.dist(start, end)


def mirrored(point: Point, start: Point, end: Point) -> Point:
    """The image of a point in the mirror that goes through two others."""
    foot = between(start, end, foot_share(point, start, end))
    return 2 * foot[0] - point[0], 2 * foot[1] - point[1]


def crossing(first: tuple[Point, Point], second: tuple[Point, Point]) -> Point | None:
    """Where two segments cross inside of both; None where they do not."""
    (ax, ay), (bx, by) = first
    (cx, cy), (dx, dy) = second
    across = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
    if abs(across) < 1e-9:
        return None
    share = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / across
    other = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / across
    if not (0.02 < share < 0.98 and 0.02 < other < 0.98):
        return None
    return between(*first, share)


def circumscribed(points: Sequence[Point]) -> tuple[Point, float]:
    """(centre, radius) of the circle through the corners of a triangle."""
    (ax, ay), (bx, by), (cx, cy) = points
    double = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    a, b, c = ax**2 + ay**2, bx**2 + by**2, cx**2 + cy**2
    x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / double
    y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / double
    return (x, y), math.dist((x, y), points[0])


def inscribed(points: Sequence[Point]) -> tuple[Point, float]:
    """(centre, radius) of the circle that touches the sides of a triangle."""
    a = math.dist(points[1], points[2])
    b = math.dist(points[0], points[2])
    c = math.dist(points[0], points[1])
    x, y = 0.0, 0.0
    for weight, point in zip((a, b, c), points, strict=True):
        x += weight * point[0] / (a + b + c)
        y += weight * point[1] / (a + b + c)
    return (x, y), distance_to_line((x, y), points[0], points[1])
