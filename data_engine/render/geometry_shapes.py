"""What a figure starts from: a shape with straight sides, an angle or a circle; and circles in and around it."""

from __future__ import annotations

import math

from data_engine.random_stream import Stream
from data_engine.render.geometry_plane import Point, circumscribed, distance_to_line, inscribed, mean
from data_engine.render.geometry_sketch import Sketch


def add_shape(sketch: Sketch, shape: str, deleted: float, stream: Stream) -> None:
    """The shape of this name; `deleted`: share of those with four sides that lose a corner."""
    if shape == "circle":
        _add_circle_shape(sketch, stream)
        return
    if shape == "angle":
        _add_angle(sketch, stream)
        return
    corners = _corners(shape, stream)
    closed = True
    if len(corners) == 4 and stream.chance(deleted):
        lost = stream.integer(0, 3)
        corners = corners[lost + 1 :] + corners[:lost]
        closed = stream.chance(0.5)
    sketch.corners = [sketch.add_point(corner) for corner in corners]
    sketch.add_lines_through(sketch.corners, closed)


def add_circle(sketch: Sketch, stream: Stream) -> None:
    """The circle in or around the shape where there is one, else one around its middle."""
    sketch.circles.append(stream.choice(_fitting_circles(sketch)))
    center, radius = sketch.circles[0]
    sketch.rim = [n for n in sketch.corners if abs(math.dist(sketch.points[n], center) - radius) < 1e-6]


def add_second_circle(sketch: Sketch, stream: Stream) -> None:
    """The other one in or around the shape, one around the same centre, or one beside that touches or cuts it."""
    center, radius = sketch.circles[0]
    others = [circle for circle in _fitting_circles(sketch) if abs(circle[1] - radius) > 0.2 * radius]
    if others:
        sketch.circles.append(stream.choice(others))
        return
    form = stream.choice(("concentric", "outside", "inside", "cutting"))
    share, angle = stream.uniform(0.35, 0.75), stream.uniform(0, 2 * math.pi)
    away = {
        "concentric": 0.0,
        "outside": 1 + share,
        "inside": 1 - share,
        "cutting": stream.uniform(1 - 0.6 * share, 1 + 0.6 * share),
    }[form]
    place = center[0] + away * radius * math.cos(angle), center[1] + away * radius * math.sin(angle)
    sketch.circles.append((place, share * radius))
    if away > 0.6 and stream.chance(0.4):
        sketch.add_line(sketch.add_point(center), sketch.add_point(place))


def _fitting_circles(sketch: Sketch) -> list[tuple[Point, float]]:
    """(centre, radius) of the circles in and around a polygon; for want of them, of one that touches a side."""
    points = [sketch.points[corner] for corner in sketch.corners]
    count = len(points)
    if not sketch.is_closed():
        return []
    if count == 3:
        around, within = circumscribed(points), inscribed(points)
        longest = max(math.dist(points[place], points[place - 1]) for place in range(3))
        return [within, around] if around[1] < 0.75 * longest else [within]
    middle = mean(points)
    to_side = min(distance_to_line(middle, points[place - 1], points[place]) for place in range(count))
    to_corners = [math.dist(middle, point) for point in points]
    circles = [(middle, to_side)]
    if max(to_corners) - min(to_corners) < 1e-6:
        circles.append((middle, to_corners[0]))
    return circles


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
    if shape == "quadrilateral":
        right: Point = (stream.uniform(0.75, 1.15) * width, stream.uniform(0.45, 1.1) * height)
        upper: Point = (stream.uniform(-0.15, 0.3) * width, stream.uniform(0.7, 1.2) * height)
        return [(0, 0), (width, 0), right, upper]
    form = stream.choice(("right", "isosceles", "equilateral", "free"))
    if form == "right":
        return [(0, 0), (width, 0), (0, height)]
    if form == "equilateral":
        return [(0, 0), (width, 0), (width / 2, width * math.sqrt(3) / 2)]
    apex = width / 2 if form == "isosceles" else stream.uniform(0.05, 0.95) * width
    return [(0, 0), (width, 0), (apex, height)]


def _add_angle(sketch: Sketch, stream: Stream) -> None:
    """Two or three rays from a point; three are the angle and a line within it, often the one that halves it."""
    wide = stream.uniform(0.5, 2.6)
    within = [stream.choice((0.5, stream.uniform(0.3, 0.7)))] if wide > 0.8 and stream.chance(0.5) else []
    vertex = sketch.add_point((0.0, 0.0))
    ends = []
    for share in (0.0, *within, 1.0):
        length = stream.uniform(4, 8)
        ends.append(sketch.add_point((length * math.cos(share * wide), length * math.sin(share * wide))))
        sketch.add_line(vertex, ends[-1])
    sketch.corners = [ends[0], vertex, ends[-1]]


def _add_circle_shape(sketch: Sketch, stream: Stream) -> None:
    """A circle with a diameter, chords, tangents, an angle, a triangle or a quadrilateral in it."""
    center = (0.0, 0.0)
    radius = stream.uniform(3, 6)
    sketch.circles.append((center, radius))
    turn = stream.uniform(0, 2 * math.pi)
    form = stream.choice(("diameter", "triangle", "quadrilateral", "chords", "angle", "tangents"))
    if form == "diameter":
        angles = [0, stream.uniform(0.25, 0.75) * math.pi, math.pi]
    elif form == "triangle":
        angles = [0, stream.uniform(1.4, 2.4), stream.uniform(3.4, 4.6)]
    elif form in ("chords", "quadrilateral"):
        angles = [0, stream.uniform(1.0, 1.6), stream.uniform(2.6, 3.4), stream.uniform(4.2, 5.0)]
    elif form == "angle":
        angles = [0, stream.uniform(0.9, 2.4)]
    else:
        half = stream.uniform(0.7, 1.2)
        angles = [-half, half]
    points = [sketch.on_rim(turn + angle) for angle in angles]
    if form == "chords":
        sketch.add_line(points[0], points[2])
        sketch.add_line(points[1], points[3])
    elif form == "angle":
        points.append(sketch.add_point(center))
    elif form == "tangents":
        far = radius / math.cos(half)
        points.insert(1, sketch.add_point((far * math.cos(turn), far * math.sin(turn))))
        sketch.add_lines_through(points)
    if form in ("diameter", "triangle", "quadrilateral", "angle"):
        sketch.add_lines_through(points, closed=True)
    sketch.corners = points
