"""Frames of a PDF page: as it is shown, and turned so that text of one direction stands upright.

Text may run up the margin of a page, and a wide table may be set sideways on it. Each of the four directions is read
in a frame in which it is upright, so that lines, columns and tables are found there by the same rules.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import pypdfium2.raw as pdfium

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in points from the upper left."""
OBLIQUE = 4
"""The turn of text that runs along no edge of the page, which has no frame of its own."""
_LEAN = math.tan(math.radians(12))  # a scan that was read by machine leans a little


class Frames:
    """The frames of one page. A turn is the number of quarters by which text is turned to the left, 0 to 3."""

    def __init__(self, page: Any) -> None:
        self.width, self.height = page.get_size()
        a, b, c, d, e, f = shown = _shown(page, self.width, self.height)
        width, height = self.width, self.height
        self._transforms = (
            shown,
            (-b, a, -d, c, height - f, e),
            (-a, -b, -c, -d, width - e, height - f),
            (b, -a, d, -c, f, width - e),
            shown,  # of OBLIQUE
        )

    def turn_of(self, along: float, up: float) -> int:
        """The turn of text that runs in a direction of PDF coordinates, or OBLIQUE."""
        a, b, c, d, _, _ = self._transforms[0]
        x, y = a * along + c * up, b * along + d * up
        if abs(y) <= _LEAN * abs(x):
            return 0 if x >= 0 else 2
        if abs(x) <= _LEAN * abs(y):
            return 1 if y < 0 else 3
        return OBLIQUE

    def size(self, turn: int) -> tuple[float, float]:
        """(width, height) of a frame in points."""
        return (self.height, self.width) if turn in (1, 3) else (self.width, self.height)

    def box(self, turn: int, left: float, bottom: float, right: float, top: float) -> Box:
        """A box in PDF coordinates, in the frame of a turn."""
        a, b, c, d, e, f = self._transforms[turn]
        if b == c == 0 and a > 0 > d:  # nearly every page
            return a * left + e, d * top + f, a * right + e, d * bottom + f
        xs = (a * left + c * bottom + e, a * right + c * top + e)
        ys = (b * left + d * bottom + f, b * right + d * top + f)
        return min(xs), min(ys), max(xs), max(ys)

    def baseline(self, turn: int, x: float, y: float) -> float:
        """How far below the upper edge of a frame a point in PDF coordinates lies."""
        _, b, _, d, _, f = self._transforms[turn]
        return b * x + d * y + f

    def shown(self, piece: Any) -> Box:
        """Where something that has a turn and four edges lies on the page as it is shown."""
        return self.turned_back((piece.left, piece.top, piece.right, piece.bottom), piece.turn)

    def turned(self, box: Box, turn: int) -> Box:
        """A box on the page as it is shown, in the frame of a turn."""
        return _turned(box, turn, self.width, self.height)

    def turned_back(self, box: Box, turn: int) -> Box:
        """A box in the frame of a turn, on the page as it is shown."""
        return _turned(box, -turn % 4, *self.size(turn))


def _turned(box: Box, turn: int, width: float, height: float) -> Box:
    left, top, right, bottom = box
    if turn == 1:
        return height - bottom, left, height - top, right
    if turn == 2:
        return width - right, height - bottom, width - left, height - top
    if turn == 3:
        return top, width - right, bottom, width - left
    return box


def _shown(page: Any, width: float, height: float) -> tuple[float, float, float, float, float, float]:
    """The affine map from PDF coordinates to points from the upper left, crop box and rotation included."""
    fine = 1000  # pdfium answers in whole device units
    x, y = ctypes.c_int(), ctypes.c_int()

    def device(px: float, py: float) -> tuple[float, float]:
        pdfium.FPDF_PageToDevice(page, 0, 0, int(width * fine), int(height * fine), 0, px, py, x, y)
        return x.value / fine, y.value / fine

    (ox, oy), (ax, ay), (bx, by) = device(0, 0), device(1000, 0), device(0, 1000)
    return (ax - ox) / 1000, (ay - oy) / 1000, (bx - ox) / 1000, (by - oy) / 1000, ox, oy
