"""The letters of a figure: each beside its point, where no line runs through it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from data_engine.render.geometry_figure import Figure
from data_engine.render.geometry_plane import Point
from data_engine.render.graphics import skia

Quad = tuple[tuple[float, float], ...]
_BUSY = 0.3  # units: lines that pass so near to a point take room at it
_LEAST_GAP = 0.7  # radians: a letter needs so much between two lines


class LetterWriter:
    """Writes letters on a gray picture [H, W] that has its lines already."""

    def __init__(
        self, picture: np.ndarray, canvas: skia.Canvas, paper: int, face: skia.Font, paint: skia.Paint
    ) -> None:
        self._picture = picture
        self._canvas = canvas
        self._clean = paper - 12  # grey levels: darker is ink
        self._face = face
        self._paint = paint

    def write(self, letter: str, places: Iterable[Point]) -> Quad:
        """Draw a letter with its ink around the first of the places (pixels) that is free, else where least ink is.

        Gives the corners of its box, which is a pixel wider than its ink on all sides.
        """
        ink = skia.Rect()
        self._face.measureText(letter, skia.TextEncoding.kUTF8, ink)
        across, down = ink.width() / 2 + 1, ink.height() / 2 + 1
        least, x, y = math.inf, 0.0, 0.0
        for place in places:
            covered = self._ink_in(place[0] - across, place[1] - down, place[0] + across, place[1] + down)
            if covered < least:
                least, (x, y) = covered, place
            if not covered:
                break
        self._canvas.drawString(letter, x - ink.centerX(), y - ink.centerY(), self._face, self._paint)
        return (x - across, y - down), (x + across, y - down), (x + across, y + down), (x - across, y + down)

    def _ink_in(self, left: float, top: float, right: float, bottom: float) -> int:
        """How many pixels of a box are inked."""
        box = self._picture[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        return int(np.count_nonzero(box < self._clean)) if box.size else 1


def places_beside(figure: Figure, point: Point, away: float) -> Iterator[Point]:
    """Places `away` from a point, the best first: in the middle of the angles that lines and circles leave free."""
    for angle in _free_directions(figure, point):
        yield point[0] + away * math.cos(angle), point[1] + away * math.sin(angle)


def _free_directions(figure: Figure, point: Point) -> list[float]:
    """In radians: the middles of the gaps between lines, the widest first, then places nearer to their sides."""
    busy: list[float] = []
    x, y = point
    for segment in figure.segments:
        (start_x, start_y), (end_x, end_y) = figure.points[segment.start], figure.points[segment.end]
        across, up, right, above = end_x - start_x, end_y - start_y, x - start_x, y - start_y
        length = math.hypot(across, up)
        if abs(across * above - up * right) > _BUSY * length:
            continue
        along = (across * right + up * above) / length
        if not -_BUSY < along < length + _BUSY:
            continue
        if along > _BUSY:
            busy.append(math.atan2(-above, -right))
        if along < length - _BUSY:
            busy.append(math.atan2(end_y - y, end_x - x))
    for circle in figure.circles:
        distance = math.dist(point, circle.center)
        if abs(distance - circle.radius) < _BUSY:
            outward = math.atan2(point[1] - circle.center[1], point[0] - circle.center[0])
            # The circle leaves along its tangent and bends inward; a little inward of it is taken as busy.
            busy += [outward + 1.75, outward - 1.75, outward + math.pi / 2, outward - math.pi / 2]
    if not busy:
        return [math.pi * eighth / 4 for eighth in (1, 3, 5, 7, 0, 2, 4, 6)]
    busy = sorted(angle % (2 * math.pi) for angle in busy)
    gaps = sorted(
        ((after - before, before) for before, after in pairwise([*busy, busy[0] + 2 * math.pi])), reverse=True
    )
    middles = [before + gap / 2 for gap, before in gaps if gap > _LEAST_GAP]
    widest, before = gaps[0]
    return [*middles[:1], before + 0.35 * widest, before + 0.65 * widest, *middles[1:], before + widest / 2]
