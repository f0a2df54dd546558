"""A figure while it grows, in coordinates of its own."""

from __future__ import annotations

import math

from data_engine.render.geometry_plane import Point

Line = tuple[int, int, bool | None]
"""Numbers of the points at its ends; whether it is dashed, None: as chance has it."""


class Sketch:
    """Points, the lines between them and circles; and of what the shape consisted to which more is added."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.lines: list[Line] = []
        self.circles: list[tuple[Point, float]] = []
        self.corners: list[int] = []
        """Points of the shape, in order."""
        self.rim: list[int] = []
        """Points on the first circle."""

    def add_point(self, point: Point) -> int:
        """The number of the point; one that is there already is used again."""
        for number, other in enumerate(self.points):
            if math.dist(point, other) < 1e-6:
                return number
        self.points.append(point)
        return len(self.points) - 1

    def add_line(self, start: int, end: int, dashed: bool | None = None) -> None:
        self.lines.append((start, end, dashed))

    def add_lines_through(self, numbers: list[int], closed: bool = False) -> None:
        """A line from each point to the next, and from the last to the first where it is closed."""
        for place in range(len(numbers) - (not closed)):
            self.add_line(numbers[place], numbers[(place + 1) % len(numbers)])

    def on_rim(self, angle: float) -> int:
        """The number of the point of the first circle in this direction (radians) from its centre."""
        (x, y), radius = self.circles[0]
        number = self.add_point((x + radius * math.cos(angle), y + radius * math.sin(angle)))
        if number not in self.rim:
            self.rim.append(number)
        return number

    def ends(self, line: Line) -> tuple[Point, Point]:
        return self.points[line[0]], self.points[line[1]]

    def are_joined(self, first: int, second: int) -> bool:
        return any({line[0], line[1]} == {first, second} for line in self.lines)

    def is_closed(self) -> bool:
        """Whether the shape is a polygon."""
        corners = self.corners
        return len(corners) > 2 and all(
            self.are_joined(corners[place - 1], corner) for place, corner in enumerate(corners)
        )
