"""The dictionary of a plane figure, read from text without running it.

The format is the paper's (section 3.4.2 and the released demo's parser):

    {'Line': {'line': ['(x, y) -- (x, y) -- ...', ...], 'line_type': ['-', ...],
              'line_endpoint': ['A: (x, y)', ...]},
     'Circle': {'circle_center': ['O: (x, y)'], 'radius': [r]}}

A text is read as a literal (`ast.literal_eval`: constants, lists and dictionaries, no names, no calls) after
its length and its depth are bounded. Whatever is not this format is malformed: FigureError.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

Position = tuple[float, float]

MAX_CHARACTERS = 100_000
MAX_DEPTH = 8
MAX_ELEMENTS = 2_000
_COORDINATE = r"([-+]?\d{1,6}(?:\.\d{0,12})?)"
_POINT = re.compile(rf"\(\s*{_COORDINATE}\s*,\s*{_COORDINATE}\s*\)")
_NAMED = re.compile(rf"\s*([^:()]{{1,20}}?)\s*:\s*{_POINT.pattern}\s*")


class FigureError(ValueError):
    """A text that is no figure."""


@dataclass(frozen=True)
class Line:
    """A line as the points on it, in the order in which they are told."""

    points: tuple[Position, ...]
    kind: str = "-"
    """"-" drawn through, "--" dashed."""

    @property
    def ends(self) -> tuple[Position, Position]:
        """The first and the last point."""
        return self.points[0], self.points[-1]


@dataclass(frozen=True)
class PlaneFigure:
    """All that a figure's text tells; coordinates and radii in units of the figure."""

    lines: tuple[Line, ...]
    circles: tuple[tuple[Position, float], ...]
    """(centre, radius)."""
    names: tuple[tuple[str, Position], ...]
    """(letter, point)."""


def read_figure(text: str) -> PlaneFigure:
    """The figure of a text. Raises FigureError."""
    content = _literal(text.strip())
    lines = _part(content, "Line")
    circles = _part(content, "Circle")
    told = [_points(line) for line in _texts(lines, "line")]
    kinds = _texts(lines, "line_type") or ["-"] * len(told)
    centers = [_named(center)[1] for center in _texts(circles, "circle_center")]
    radii = _list(circles, "radius")
    if len(kinds) != len(told) or len(radii) != len(centers):
        raise FigureError("lists that belong together differ in length")
    if not all(isinstance(r, (int, float)) and 0 < r < 1e6 for r in radii):
        raise FigureError("a radius is no number")
    return PlaneFigure(
        tuple(Line(points, kind) for points, kind in zip(told, kinds, strict=True)),
        tuple((center, float(radius)) for center, radius in zip(centers, radii, strict=True)),
        tuple(_named(name) for name in _texts(lines, "line_endpoint")),
    )


def _literal(text: str) -> dict[str, Any]:
    if len(text) > MAX_CHARACTERS or _depth(text) > MAX_DEPTH:
        raise FigureError("too long or too deep")
    try:
        content = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise FigureError("not a dictionary") from error
    if not isinstance(content, dict) or not content.keys() <= {"Line", "Circle"}:
        raise FigureError("not a dictionary of Line and Circle")
    return content


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def _part(content: dict[str, Any], key: str) -> dict[str, Any]:
    part = content.get(key, {})
    if not isinstance(part, dict):
        raise FigureError(f"{key} is no dictionary")
    return part


def _list(part: dict[str, Any], key: str) -> list[Any]:
    values = part.get(key, [])
    if not isinstance(values, list) or len(values) > MAX_ELEMENTS:
        raise FigureError(f"{key} is no list")
    return values


def _texts(part: dict[str, Any], key: str) -> list[str]:
    values = _list(part, key)
    if not all(isinstance(value, str) for value in values):
        raise FigureError(f"{key} holds something that is no text")
    return values


def _points(text: str) -> tuple[Position, ...]:
    points = []
    for piece in text.split("--"):
        found = _POINT.fullmatch(piece.strip())
        if not found:
            raise FigureError(f"{piece!r} is no point")
        points.append((float(found[1]), float(found[2])))
    if len(points) < 2:
        raise FigureError("a line of one point")
    return tuple(points)


def _named(text: str) -> tuple[str, Position]:
    found = _NAMED.fullmatch(text)
    if not found:
        raise FigureError(f"{text!r} is no named point")
    return found[1], (float(found[2]), float(found[3]))
