"""What is added to a shape: lines within it, extensions, folds, and lines of its circle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from data_engine.random_stream import Stream
from data_engine.render.geometry_plane import Point, between, distance_to_line, foot_share, mirrored
from data_engine.render.geometry_sketch import Line, Sketch

_FLATTEST = 0.26
"""Tangent of the least angle between two lines from a point; flatter ones could not be told apart."""
_MIDDLES = (0.5, 0.5, 1 / 3, 2 / 3)
"""Shares of a side that exercises name more often than others."""


def add_something(sketch: Sketch, weights: Mapping[str, float], stream: Stream) -> bool:
    """One addition by its weight, or the next where that one is not possible. False when none is."""
    left = {form: weight for form, weight in weights.items() if weight}
    while left:
        form = stream.weighted(left)
        del left[form]
        if (sketch.circles or form not in _OF_CIRCLES) and _FORMS[form](sketch, stream):
            return True
    return False


def _share(stream: Stream) -> float:
    return stream.choice(_MIDDLES) if stream.chance(0.8) else stream.uniform(0.25, 0.75)


def _add_diagonal(sketch: Sketch, stream: Stream) -> bool:
    """A line between two corners that none joins."""
    corners = sketch.corners
    pairs = [
        (first, second)
        for place, first in enumerate(corners)
        for second in corners[:place]
        if not sketch.are_joined(first, second)
    ]
    if not pairs:
        return False
    sketch.add_line(*stream.choice(pairs))
    return True


def _sides_opposite(sketch: Sketch, corner: int) -> list[Line]:
    """The lines that do not pass through a corner."""
    here = sketch.points[corner]
    return [
        line
        for line in sketch.lines
        if corner not in line[:2] and distance_to_line(here, *sketch.ends(line)) > 0.5
    ]


def _join(sketch: Sketch, corner: int, place: Point) -> bool:
    """A line from a corner, unless another leaves there in nearly the same direction."""
    x, y = sketch.points[corner]
    across, up = place[0] - x, place[1] - y
    for line in sketch.lines:
        if corner in line[:2]:
            other_x, other_y = sketch.points[_other(line, corner)]
            right, above = other_x - x, other_y - y
            # Of two vectors, the cross product over the inner one is the tangent of the angle between them.
            if abs(across * above - up * right) < _FLATTEST * (across * right + up * above):
                return False
    sketch.add_line(corner, sketch.add_point(place))
    return True


def _add_line_to_side(sketch: Sketch, stream: Stream) -> bool:
    corner = stream.choice(sketch.corners)
    sides = _sides_opposite(sketch, corner)
    if not sides:
        return False
    return _join(sketch, corner, between(*sketch.ends(stream.choice(sides)), _share(stream)))


def _add_height(sketch: Sketch, stream: Stream) -> bool:
    """The perpendicular from a corner to a side, where it meets the side well inside of its ends."""
    found = [
        (corner, between(*ends, share))
        for corner in sketch.corners
        for ends in map(sketch.ends, _sides_opposite(sketch, corner))
        if 0.12 < (share := foot_share(sketch.points[corner], *ends)) < 0.88
    ]
    if not found:
        return False
    return _join(sketch, *stream.choice(found))


def _add_parallel(sketch: Sketch, stream: Stream) -> bool:
    """A line between two sides that meet, parallel to the line between their other ends."""
    found = _sides_that_meet(sketch, stream)
    if found is None:
        return False
    corner, first, second = found
    share = _share(stream)
    here = sketch.points[corner]
    ends = [between(here, sketch.points[_other(line, corner)], share) for line in (first, second)]
    sketch.add_line(sketch.add_point(ends[0]), sketch.add_point(ends[1]))
    return True


def _add_extension(sketch: Sketch, stream: Stream) -> bool:
    """A side grows beyond a point where another line ends; half the time a corner is joined with the new end."""
    place = stream.integer(0, len(sketch.lines) - 1)
    start, end, dashed = sketch.lines[place]
    if stream.chance(0.5):
        start, end = end, start
    # Were it the only line that ends there, nothing would mark the point any more.
    if sum(end in line[:2] for line in sketch.lines) < 2:
        return False
    far = sketch.add_point(between(sketch.points[start], sketch.points[end], stream.uniform(1.3, 1.65)))
    sketch.lines[place] = (start, far, dashed)
    others = [corner for corner in sketch.corners if corner not in (start, end)]
    if others and stream.chance(0.5):
        sketch.add_line(far, stream.choice(others))
    return True


def _add_fold(sketch: Sketch, stream: Stream) -> bool:
    """A corner is folded over: where it was is dashed, where it is now is drawn through."""
    found = _sides_that_meet(sketch, stream)
    if found is None:
        return False
    corner, first, second = found
    here = sketch.points[corner]
    creases = []
    for line in (first, second):
        other = _other(line, corner)
        crease = sketch.add_point(between(here, sketch.points[other], stream.uniform(0.35, 0.7)))
        sketch.lines.remove(line)
        sketch.add_line(other, crease, False)
        sketch.add_line(crease, corner, True)
        creases.append(crease)
    folded = sketch.add_point(mirrored(here, *(sketch.points[crease] for crease in creases)))
    for first_end, second_end in ((creases[0], creases[1]), (creases[0], folded), (folded, creases[1])):
        sketch.add_line(first_end, second_end, False)
    return True


def _sides_that_meet(sketch: Sketch, stream: Stream) -> tuple[int, Line, Line] | None:
    """A corner and two lines that end there, both from other corners."""
    corner = stream.choice(sketch.corners)
    lines = [line for line in sketch.lines if corner in line[:2] and _other(line, corner) in sketch.corners]
    if len(lines) < 2:
        return None
    first, second = stream.sample(lines, 2)
    return corner, first, second


def _other(line: Line, end: int) -> int:
    return line[1] if line[0] == end else line[0]


def _rim_point(sketch: Sketch, stream: Stream) -> int:
    """One that is there, or a new one."""
    if sketch.rim and stream.chance(0.6):
        return stream.choice(sketch.rim)
    return sketch.on_rim(stream.uniform(0, 2 * math.pi))


def _add_chord(sketch: Sketch, stream: Stream) -> bool:
    start = _rim_point(sketch, stream)
    (x, y), _ = sketch.circles[0]
    here = sketch.points[start]
    opposite = math.atan2(y - here[1], x - here[0])
    end = sketch.on_rim(opposite + (0.0 if stream.chance(0.4) else stream.uniform(-1.6, 1.6)))
    if sketch.are_joined(start, end):
        return False
    sketch.add_line(start, end)
    return True


def _add_radius(sketch: Sketch, stream: Stream) -> bool:
    center, end = sketch.add_point(sketch.circles[0][0]), _rim_point(sketch, stream)
    if sketch.are_joined(center, end):
        return False
    sketch.add_line(center, end)
    return True


def _add_tangent(sketch: Sketch, stream: Stream) -> bool:
    """A line that touches the circle, from the point where it does or through it."""
    touching = _rim_point(sketch, stream)
    (x, y), radius = sketch.circles[0]
    here = sketch.points[touching]
    across, up = -(here[1] - y) / radius, (here[0] - x) / radius
    if stream.chance(0.5):
        across, up = -across, -up
    far = radius * stream.uniform(0.7, 1.4)
    start = touching
    if stream.chance(0.5):
        back = radius * stream.uniform(0.5, 1.0)
        start = sketch.add_point((here[0] - back * across, here[1] - back * up))
    sketch.add_line(start, sketch.add_point((here[0] + far * across, here[1] + far * up)))
    return True


_OF_CIRCLES = ("chord", "radius", "tangent")
_FORMS: dict[str, Callable[[Sketch, Stream], bool]] = {
    "diagonal": _add_diagonal,
    "side": _add_line_to_side,
    "height": _add_height,
    "parallel": _add_parallel,
    "extension": _add_extension,
    "fold": _add_fold,
    "chord": _add_chord,
    "radius": _add_radius,
    "tangent": _add_tangent,
}
