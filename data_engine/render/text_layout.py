"""Breaking text into lines: at blanks, and between Chinese characters where the rules of the script allow it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from data_engine.render.graphics import skia

# One unit is what a line break may not cut: a Chinese character with the punctuation that belongs to it, or a
# run of anything else. A closing mark never opens a line, an opening mark never ends one.
_OPENING = "（《“‘【"
_CLOSING = "，。、；：！？）》”’】…"
_UNIT = re.compile(
    rf"[{_OPENING}]*[\u3400-\u9fff][{_CLOSING}]*|[^\s\u3400-\u9fff{_OPENING}]+[{_CLOSING}]*|\s+|[{_OPENING}]"
)
_WIDEST_SPREAD = 0.3  # of a line's own width: what is wider looks torn and is left as it is


@dataclass(frozen=True)
class Line:
    """One line of a broken text."""

    units: tuple[str, ...]
    """In order; blanks are units of their own, and there is none at either end."""
    width: float
    """In pixels."""
    ends_paragraph: bool

    @property
    def text(self) -> str:
        return "".join(self.units)


def break_lines(text: str, font: skia.Font, width: float, indent: float = 0.0) -> list[Line] | None:
    """The lines of one paragraph, greedily filled; None when a single unit is wider than `width`.

    `indent` is the room that the first line leaves free at its start, in pixels.
    """
    lines: list[Line] = []
    units: list[str] = []
    used, room = 0.0, width - indent
    # One glyph per character: no ligatures, no kerning. All at once is many times quicker than unit by unit.
    ends = list(accumulate(font.getWidths(font.textToGlyphs(text)), initial=0.0))
    for match in _UNIT.finditer(text):
        unit = match[0]
        blank = unit.isspace()
        if blank and not units:
            continue
        advance = ends[match.end()] - ends[match.start()]
        if used + advance > room and units and not blank:
            lines.append(_line(units, font, False))
            units, used, room = [], 0.0, width
        if not blank and advance > room:
            return None
        units.append(unit)
        used += advance
    if units:
        lines.append(_line(units, font, True))
    return lines


def draw_line(
    canvas: skia.Canvas,
    line: Line,
    x: float,
    baseline: float,
    width: float | None,
    font: skia.Font,
    paint: skia.Paint,
) -> None:
    """Draw a line from `x`; with a `width`, its blanks (or its characters) are spread to fill it."""
    spare = 0.0 if width is None or line.ends_paragraph else width - line.width
    blanks = sum(unit.isspace() for unit in line.units)
    gaps = blanks or len(line.units) - 1
    if spare <= 0 or gaps == 0 or spare > _WIDEST_SPREAD * line.width:
        canvas.drawString(line.text, x, baseline, font, paint)
        return
    for place, unit in enumerate(line.units):
        if not unit.isspace():
            canvas.drawString(unit, x, baseline, font, paint)
        x += font.measureText(unit)
        if unit.isspace() or (not blanks and place < len(line.units) - 1):
            x += spare / gaps


def _line(units: list[str], font: skia.Font, last: bool) -> Line:
    while units[-1].isspace():
        units = units[:-1]
    return Line(tuple(units), font.measureText("".join(units)), last)
