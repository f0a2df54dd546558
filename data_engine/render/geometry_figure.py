"""Random plane figures: a shape with straight sides or a circle, with lines and points added to it.

Coordinates are in the label's frame: the figure's box is centred on (0, 0), its longer side is 12 to 17 units
of a window that is 20 units wide, two decimals. What is drawn is drawn from these rounded numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_engine.geometry_options import GeometryOptions
from data_engine.random_stream import Draws, Stream

Point = tuple[float, float]
WINDOW = 20.0  # units across the image
_LETTERS = "ABCDEFGHIJKLMNPQRSTUVWXYZ"  # without O, the centre of a circle
_NEAREST_POINTS = 1.1  # units; closer ones would run together
_FLATTEST = math.radians(14)  # the least angle between two lines that meet


@dataclass(frozen=True)
class Segment:
    """A straight line between two named points."""

    start: str
    end: str
    dashed: bool


@dataclass(frozen=True)
class Circle:
    """A circle around "O"."""

    center: Point
    radius: float


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


def random_figure(draws: Draws, options: GeometryOptions, room: float = WINDOW) -> Figure:
    """A figure in which all points can be told apart, at most `room` units across.

    Attempts that fail draw from streams of their own.
    """
    attempt = 0
    while True:
        figure = _attempt(draws.stream(f"content/{attempt}"), options, room)
        if figure is not None:
            return figure
        attempt += 1


def _attempt(stream: Stream, options: GeometryOptions, room: float) -> Figure | None:
    shape = stream.choice(options.shapes)
    sketch = _Sketch()
    if shape == "circle":
        _circle_with_lines(sketch, stream)
    else:
        corners = [sketch.add_point(corner) for corner in _corners(shape, stream)]
        for number, corner in enumerate(corners):
            sketch.add_line(corner, corners[(number + 1) % len(corners)])
        if stream.chance(options.circles):
            _add_circle(sketch, corners, shape, stream)
        for _ in range(stream.integer(*options.extra_lines)):
            _add_line(sketch, corners, stream)
    return sketch.finished(stream, options, room)


class _Sketch:
    """A figure while it grows, in coordinates of its own."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.lines: list[tuple[int, int]] = []
        self.circles: list[tuple[Point, float]] = []

    def add_point(self, point: Point) -> int:
        """The number of the point; one that is there already is used again."""
        for number, other in enumerate(self.points):
            if math.dist(point, other) < 1e-6:
                return number
        self.points.append(point)
        return len(self.points) - 1

    def add_line(self, start: int, end: int) -> None:
        self.lines.append((start, end))

    def finished(self, stream: Stream, options: GeometryOptions, room: float) -> Figure | None:
        """Turned, scaled, centred, rounded and lettered; None when something cannot be told apart."""
        angle = stream.uniform(0, 2 * math.pi) if stream.chance(0.5) else math.pi / 2 * stream.integer(0, 3)
        mirror = -1.0 if stream.chance(0.5) else 1.0
        cosine, sine = math.cos(angle), math.sin(angle)

        def turned(point: Point) -> Point:
            x, y = point[0] * mirror, point[1]
            return x * cosine - y * sine, x * sine + y * cosine

        points = [turned(point) for point in self.points]
        circles = [(turned(center), radius) for center, radius in self.circles]
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
        rings = tuple(Circle(placed(center), round(radius * scale, 2)) for center, radius in circles)
        if not _can_be_told_apart(final, self.lines, rings):
            return None
        names = stream.sample(_LETTERS, len(final))
        segments = tuple(
            Segment(names[start], names[end], stream.chance(options.dashed)) for start, end in self.lines
        )
        lettered = stream.chance(options.letters)
        return Figure(dict(zip(names, final, strict=True)), segments, rings, lettered)


def _can_be_told_apart(
    points: list[Point], lines: list[tuple[int, int]], circles: tuple[Circle, ...]
) -> bool:
    places = points + [circle.center for circle in circles if circle.center not in points]
    for number, point in enumerate(places):
        if any(math.dist(point, other) < _NEAREST_POINTS for other in places[:number]):
            return False
    if len({frozenset(line) for line in lines}) < len(lines):
        return False
    angles: dict[int, list[float]] = {}
    for start, end in lines:
        for here, there in ((start, end), (end, start)):
            (x, y), (to_x, to_y) = points[here], points[there]
            angles.setdefault(here, []).append(math.atan2(to_y - y, to_x - x))
    for found in angles.values():
        found.sort()
        turns = [
            after - before for before, after in zip(found, [*found[1:], found[0] + 2 * math.pi], strict=True)
        ]
        if len(found) > 1 and min(turns) < _FLATTEST:
            return False
    return True


def _corners(shape: str, stream: Stream) -> list[Point]:
    """The corners of a shape, counter-clockwise; the base lies on the x axis."""
    width, height = stream.uniform(4, 10), stream.uniform(3, 8)
    if shape == "square":
        return [(0, 0), (width, 0), (width, width), (0, width)]
    if shape == "rectangle":
        return [(0, 0), (width, 0), (width, height), (0, height)]
    if shape == "parallelogram":
        lean = stream.uniform(0.15, 0.6) * width
        return [(0, 0), (width, 0), (width + lean, height), (lean, height)]
    if shape == "rhombus":
        return [(0, -height / 2), (width / 2, 0), (0, height / 2), (-width / 2, 0)]
    if shape == "trapezoid":
        top = stream.uniform(0.35, 0.8) * width
        form = stream.choice(("right", "isosceles", "free"))
        left = {"right": 0.0, "isosceles": (width - top) / 2}.get(form, stream.uniform(0, width - top))
        return [(0, 0), (width, 0), (left + top, height), (left, height)]
    form = stream.choice(("right", "isosceles", "equilateral", "free"))
    if form == "right":
        return [(0, 0), (width, 0), (0, height)]
    if form == "equilateral":
        return [(0, 0), (width, 0), (width / 2, width * math.sqrt(3) / 2)]
    apex = width / 2 if form == "isosceles" else stream.uniform(0.05, 0.95) * width
    return [(0, 0), (width, 0), (apex, height)]


def _add_circle(sketch: _Sketch, corners: list[int], shape: str, stream: Stream) -> None:
    """The circle in or around the shape where there is one, else one around its middle."""
    points = [sketch.points[corner] for corner in corners]
    middle = _mean(points)
    if shape == "triangle":
        sketch.circles.append(_circumscribed(points) if stream.chance(0.5) else _inscribed(points))
        return
    to_corner = math.dist(middle, points[0])
    to_side = min(_distance_to_line(middle, points[number], points[(number + 1) % 4]) for number in range(4))
    if shape in ("square", "rectangle") and stream.chance(0.5):
        sketch.circles.append((middle, to_corner))
    else:
        sketch.circles.append((middle, to_side))


def _add_line(sketch: _Sketch, corners: list[int], stream: Stream) -> None:
    """One more line: a diagonal, a line to a point on a side, a height, or a parallel between two sides."""
    form = stream.weighted({"diagonal": 3.0, "to side": 4.0, "height": 1.5, "between sides": 1.5})
    count = len(corners)
    corner = stream.integer(0, count - 1)
    here = sketch.points[corners[corner]]
    if form == "diagonal" and count == 4:
        sketch.add_line(corners[corner], corners[(corner + 2) % 4])
        return
    # A side that does not touch the corner.
    side = (corner + 1) % count if count == 3 else (corner + 1 + stream.integer(0, 1)) % count
    start, end = sketch.points[corners[side]], sketch.points[corners[(side + 1) % count]]
    share = stream.choice((0.5, 0.5, 1 / 3, 2 / 3, stream.uniform(0.25, 0.75)))
    if form == "height":
        length = math.dist(start, end)
        share = (
            (here[0] - start[0]) * (end[0] - start[0]) + (here[1] - start[1]) * (end[1] - start[1])
        ) / length**2
        if not 0.12 < share < 0.88:
            share = 0.5
    if form == "between sides":
        other = sketch.points[corners[(side + 2) % count]]
        first = sketch.add_point(_between(start, end, share))
        second = sketch.add_point(_between(end, other, 1 - share))
        sketch.add_line(first, second)
        return
    sketch.add_line(corners[corner], sketch.add_point(_between(start, end, share)))


def _circle_with_lines(sketch: _Sketch, stream: Stream) -> None:
    """A circle with a diameter, chords or a triangle in it."""
    radius = stream.uniform(3, 6)
    center = (0.0, 0.0)
    sketch.circles.append((center, radius))
    turn = stream.uniform(0, 2 * math.pi)

    def on_circle(angle: float) -> int:
        return sketch.add_point((radius * math.cos(turn + angle), radius * math.sin(turn + angle)))

    form = stream.choice(("diameter", "triangle", "chords", "angle"))
    if form == "diameter":
        start, end = on_circle(0), on_circle(math.pi)
        third = on_circle(stream.uniform(0.25, 0.75) * math.pi)
        sketch.lines += [(start, end), (start, third), (third, end)]
    elif form == "triangle":
        first, second = stream.uniform(1.4, 2.4), stream.uniform(3.4, 4.6)
        corners = [on_circle(0), on_circle(first), on_circle(second)]
        sketch.lines += [(corners[0], corners[1]), (corners[1], corners[2]), (corners[2], corners[0])]
    elif form == "chords":
        angles = [0, stream.uniform(1.0, 1.6), stream.uniform(2.6, 3.4), stream.uniform(4.2, 5.0)]
        corners = [on_circle(angle) for angle in angles]
        sketch.lines += [(corners[0], corners[2]), (corners[1], corners[3])]
    else:
        start, end = on_circle(0), on_circle(stream.uniform(0.9, 2.4))
        middle = sketch.add_point(center)
        sketch.lines += [(middle, start), (middle, end), (start, end)]


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _mean(points: list[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _distance_to_line(point: Point, start: Point, end: Point) -> float:
    cross = (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
    return abs(cross) / math.dist(start, end)


def _circumscribed(points: list[Point]) -> tuple[Point, float]:
    (ax, ay), (bx, by), (cx, cy) = points
    double = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    a, b, c = ax**2 + ay**2, bx**2 + by**2, cx**2 + cy**2
    x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / double
    y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / double
    return (x, y), math.dist((x, y), points[0])


def _inscribed(points: list[Point]) -> tuple[Point, float]:
    a = math.dist(points[1], points[2])
    b = math.dist(points[0], points[2])
    c = math.dist(points[0], points[1])
    weights = zip((a, b, c), points, strict=True)
    x, y = 0.0, 0.0
    for weight, point in weights:
        x += weight * point[0] / (a + b + c)
        y += weight * point[1] / (a + b + c)
    return (x, y), _distance_to_line((x, y), points[0], points[1])
