"""Random plane figures: a shape or a circle, what is added to it, and the letters of its points.

Coordinates are in the label's frame: the figure's box is centred on (0, 0), its longer side is 12 to 17 units
of a window that is 20 units wide, two decimals. What is drawn is drawn from these rounded numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from data_engine.geometry_options import GeometryOptions
from data_engine.random_stream import Draws, Stream
from data_engine.render.geometry_additions import add_something
from data_engine.render.geometry_plane import Point, crossing
from data_engine.render.geometry_shapes import add_circle, add_second_circle, add_shape
from data_engine.render.geometry_sketch import Line, Sketch

WINDOW = 20.0  # units across the image
_CENTER = "O"
_LETTERS = "ABCDEFGHIJKLMNPQRSTUVWXYZ"  # without O, the centre of a circle
_NEAREST_POINTS = 1.1  # units; closer ones would run together
_NEAREST_LINE = 0.35  # units; a point that is nearer to a line has to lie on it
_ON_LINE = 0.03  # units: what rounding to two decimals moves a point off its line, and more
_FLATTEST = math.radians(14)  # the least angle between two lines that meet


@dataclass(frozen=True)
class Segment:
    """A straight line between two named points."""

    start: str
    end: str
    dashed: bool


@dataclass(frozen=True)
class Circle:
    """A circle; its centre may have a letter, and a dot."""

    center: Point
    radius: float
    name: str | None = None
    dotted: bool = False


@dataclass(frozen=True)
class Figure:
    """Points by letter, lines between them, circles. `lettered`: whether the letters are drawn."""

    points: dict[str, Point]
    segments: tuple[Segment, ...]
    circles: tuple[Circle, ...]
    lettered: bool

    def box(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of all that is drawn, letters aside."""
        xs = [x for x, _ in self.points.values()]
        ys = [y for _, y in self.points.values()]
        for circle in self.circles:
            xs += [circle.center[0] - circle.radius, circle.center[0] + circle.radius]
            ys += [circle.center[1] - circle.radius, circle.center[1] + circle.radius]
        return min(xs), min(ys), max(xs), max(ys)

    def letters(self) -> dict[str, Point]:
        """Every letter that is drawn, and the point that it stands at."""
        if not self.lettered:
            return {}
        return self.points | {circle.name: circle.center for circle in self.circles if circle.name}


Weights = Mapping[str, Mapping[str, float]]


def random_figure(
    draws: Draws, options: GeometryOptions, room: float = WINDOW, weights: Weights | None = None
) -> Figure:
    """A figure in which all points can be told apart, at most `room` units across.

    `weights` are those of the options, for who asks for many figures. Attempts that fail draw from streams of their
    own.
    """
    weights = weights or options.weights()
    attempt = 0
    while True:
        figure = _attempt(draws.stream(f"content/{attempt}"), options, weights, room)
        if figure is not None:
            return figure
        attempt += 1


def _attempt(stream: Stream, options: GeometryOptions, weights: Weights, room: float) -> Figure | None:
    sketch = Sketch()
    add_shape(sketch, stream.weighted(weights["shapes"]), options.deleted, stream)
    if not sketch.circles and sketch.is_closed() and stream.chance(options.circles):
        add_circle(sketch, stream)
    for _ in range(stream.integer(*options.extra_lines)):
        add_something(sketch, weights["additions"], stream)
    if sketch.circles and stream.chance(options.more_circles):
        add_second_circle(sketch, stream)
    return _finished(sketch, stream, options, room)


def _finished(sketch: Sketch, stream: Stream, options: GeometryOptions, room: float) -> Figure | None:
    """Turned, scaled, centred, rounded and lettered; None when something cannot be told apart."""
    if len(sketch.points) + len(sketch.circles) > len(_LETTERS):
        return None
    angle = stream.uniform(0, 2 * math.pi) if stream.chance(0.5) else math.pi / 2 * stream.integer(0, 3)
    mirror = -1.0 if stream.chance(0.5) else 1.0
    cosine, sine = math.cos(angle), math.sin(angle)

    def turned(point: Point) -> Point:
        x, y = point[0] * mirror, point[1]
        return x * cosine - y * sine, x * sine + y * cosine

    points = [turned(point) for point in sketch.points]
    circles = [(turned(center), radius) for center, radius in sketch.circles]
    xs = [x for x, _ in points] + [c[0] + side * r for c, r in circles for side in (-1, 1)]
    ys = [y for _, y in points] + [c[1] + side * r for c, r in circles for side in (-1, 1)]
    longest = min(stream.uniform(12, 17), room)
    scale = longest / max(max(xs) - min(xs), max(ys) - min(ys))
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)

    def placed(point: Point) -> Point:
        # "+ 0.0" turns -0.0 into 0.0, which has another text
        return (
            round((point[0] - middle[0]) * scale, 2) + 0.0,
            round((point[1] - middle[1]) * scale, 2) + 0.0,
        )

    final = [placed(point) for point in points]
    rings = [Circle(placed(center), round(radius * scale, 2)) for center, radius in circles]
    if not _can_be_told_apart(final, sketch.lines, [ring.center for ring in rings]):
        return None
    return _named(final, sketch.lines, rings, stream, options)


def _named(
    points: list[Point], lines: list[Line], rings: list[Circle], stream: Stream, options: GeometryOptions
) -> Figure:
    """The figure with letters, O at its first centre, and with dashes and dots."""
    lettered = stream.chance(options.letters)
    dashes = [stream.chance(options.dashed) if dashed is None else dashed for _, _, dashed in lines]
    if lettered and stream.chance(options.intersections):
        points = (points + _crossings(points, lines, rings))[: len(_LETTERS) - len(rings)]
    names = stream.sample(_LETTERS, len(points) + len(rings))
    centers = [ring.center for ring in rings]
    if centers and centers[0] in points:
        names[points.index(centers[0])] = _CENTER
    of_points = dict(zip(points, names, strict=False))
    # All centres or none: one with a letter among others without would leave open whose it is.
    with_letters = lettered and (
        stream.chance(options.center_letters) or not of_points.keys().isdisjoint(centers)
    )
    circles = []
    for place, ring in enumerate(rings):
        first = centers.index(ring.center)
        own = _CENTER if first == 0 else of_points.get(ring.center, names[len(points) + first])
        dotted = with_letters or stream.chance(options.center_dots)
        circles.append(replace(ring, name=own if with_letters else None, dotted=dotted and place == first))
    segments = tuple(
        Segment(names[start], names[end], dash) for (start, end, _), dash in zip(lines, dashes, strict=True)
    )
    return Figure(dict(zip(names, points, strict=False)), segments, tuple(circles), lettered)


def _crossings(points: list[Point], lines: list[Line], rings: list[Circle]) -> list[Point]:
    """Where lines cross, far enough from all other points to have a letter."""
    taken = points + [ring.center for ring in rings]
    found: list[Point] = []
    ends = [(points[start], points[end]) for start, end, _ in lines]
    for place, first in enumerate(ends):
        for second in ends[:place]:
            cross = crossing(first, second)
            if cross is None:
                continue
            point = round(cross[0], 2) + 0.0, round(cross[1], 2) + 0.0
            if all(math.dist(point, other) >= _NEAREST_POINTS for other in (*taken, *found)):
                found.append(point)
    return found


def _can_be_told_apart(points: list[Point], lines: list[Line], centers: list[Point]) -> bool:
    """Whether no two points run together, no point is nearly on a line, and no two lines nearly on one another."""
    places = points + [center for center in dict.fromkeys(centers) if center not in points]
    for number, (x, y) in enumerate(places):
        for other_x, other_y in places[:number]:
            if (x - other_x) ** 2 + (y - other_y) ** 2 < _NEAREST_POINTS**2:
                return False
    angles: dict[int, list[float]] = {number: [] for number in range(len(points))}
    for start, end, _ in lines:
        (x, y), (to_x, to_y) = points[start], points[end]
        across, up = to_x - x, to_y - y
        square = across * across + up * up
        length = math.sqrt(square)
        near = _NEAREST_LINE * length
        direction = math.atan2(up, across)
        back = direction - math.pi if direction > 0 else direction + math.pi
        angles[start].append(direction)
        angles[end].append(back)
        for number, (point_x, point_y) in enumerate(points):
            right, above = point_x - x, point_y - y
            off = abs(across * above - up * right)
            if off > near or number in (start, end):
                continue
            if 0 < across * right + up * above < square:
                if off > _ON_LINE * length:
                    return False
                angles[number] += [direction, back]
    for found in angles.values():
        found.sort()
        for place in range(len(found)):
            turn = found[place] - found[place - 1] + (0 if place else 2 * math.pi)
            if turn < _FLATTEST:
                return False
    return True
