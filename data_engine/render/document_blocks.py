"""The blocks of a synthetic document: each knows its height, how it is drawn, and what it says.

A block is made for a width, and only then asked how tall it is: a layout never has to break one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_engine.languages import Script
from data_engine.markup import html_table
from data_engine.random_stream import Stream
from data_engine.render.formula import random_formula
from data_engine.render.graphics import skia
from data_engine.render.paragraphs import Typesetter
from data_engine.words import heading, sentence


@dataclass(frozen=True)
class BlockStyle:
    """How the blocks of one page look. Lengths in pixels."""

    script: Script
    family: str
    pixels: float
    line_height: float
    """In font sizes."""
    alignment: str
    ink: int
    """ARGB."""
    heading_ink: int
    fill: int
    """Of the shaded rows of a table."""
    table_lines: str
    """"grid", "rules" (top, head, bottom), or "shaded"."""
    numbered: bool
    """Whether headings have numbers."""


@dataclass(frozen=True)
class BlockDrawing:
    """A block that is ready to be drawn."""

    label: str
    text: str
    """In Markdown."""
    plain: str
    """The same without marks of headings."""
    height: float
    paint: Callable[[skia.Canvas, float, float], None]
    """Draws with the upper left corner at (x, y)."""
    frame: tuple[float, float, float] | None = None
    """(shift to the right, width, height) of a picture; the box of other blocks is where their ink is."""


class BlockMaker:
    """Makes random blocks of one page for a given width."""

    def __init__(self, typesetter: Typesetter, style: BlockStyle, stream: Stream) -> None:
        self._typesetter = typesetter
        self._style = style
        self._stream = stream
        self._counts = {"section": 0, "figure": 0, "table": 0, "equation": 0}

    def _set(
        self, text: str, width: float | None, scale: float = 1.0, **changes: object
    ) -> skia.textlayout.Paragraph:
        style = self._style
        values: dict[str, Any] = {
            "alignment": style.alignment,
            "line_height": style.line_height,
            "color": style.ink,
            **changes,
        }
        pixels = float(round(scale * style.pixels))
        right_to_left = style.script.right_to_left
        return self._typesetter.paragraph(
            text, style.family, pixels, width, right_to_left=right_to_left, **values
        )

    def title(self, width: float) -> BlockDrawing:
        text = heading(self._style.script.language, self._stream, self._stream.integer(3, 8))
        alignment = "center" if self._stream.chance(0.5) else "left"
        color = self._style.heading_ink
        set_text = self._set(text, width, 1.7, bold=True, alignment=alignment, line_height=1.2, color=color)
        return _of_paragraph("title", set_text, f"# {text}", text)

    def subtitle(self, width: float) -> BlockDrawing:
        self._counts["section"] += 1
        text = heading(self._style.script.language, self._stream, self._stream.integer(2, 5))
        if self._style.numbered:
            text = f"{self._counts['section']}. {text}"
        color = self._style.heading_ink
        set_text = self._set(text, width, 1.2, bold=True, alignment="left", color=color)
        return _of_paragraph("sub_title", set_text, f"## {text}", text)

    def paragraph(self, width: float) -> BlockDrawing:
        language, stream = self._style.script.language, self._stream
        longest = 1 + int(width / (self._style.pixels * 8))
        count = stream.integer(1, 2 + longest)
        text = language.separator.join(
            sentence(language, stream, stream.integer(5, 15)) for _ in range(count)
        )
        return _of_paragraph("text", self._set(text, width), text, text)

    def items(self, width: float) -> BlockDrawing:
        language, stream, pixels = self._style.script.language, self._stream, self._style.pixels
        numbered, inset = stream.chance(0.5), 2.0 * pixels
        lines, items, height = [], [], 0.0
        for number in range(stream.integer(2, 6)):
            mark = f"{number + 1}." if numbered else "•"
            text = heading(language, stream, stream.integer(2, 10))
            set_text = self._set(text, width - inset, alignment="left")
            items.append((self._set(mark, None), set_text, height))
            height += set_text.Height + 0.15 * pixels
            lines.append(f"{mark} {text}")
        mirrored = self._style.script.right_to_left

        def paint(canvas: skia.Canvas, x: float, y: float) -> None:
            for mark, set_text, down in items:
                mark_x = x + width - 0.4 * pixels - mark.MaxIntrinsicWidth if mirrored else x + 0.4 * pixels
                mark.paint(canvas, mark_x, y + down)
                set_text.paint(canvas, x if mirrored else x + inset, y + down)

        return BlockDrawing("text", "\n".join(lines), "\n".join(lines), height, paint)

    def equation(self, width: float) -> BlockDrawing | None:
        """A displayed formula, sometimes with its number; None when the column is too narrow for it."""
        style, stream = self._style, self._stream
        formula = random_formula(stream)
        drawing = formula.draw(round(1.1 * style.pixels))
        latex, number = formula.latex(), None
        if stream.chance(0.3):
            self._counts["equation"] += 1
            number = self._typesetter.paragraph(
                f"({self._counts['equation']})", "stix", style.pixels, color=style.ink, line_height=1.0
            )
            latex += rf"\tag{{{self._counts['equation']}}}"
        if drawing.width + (2 * (number.MaxIntrinsicWidth + style.pixels) if number else 0) > width:
            return None

        def paint(canvas: skia.Canvas, x: float, y: float) -> None:
            drawing.paint(canvas, x + (width - drawing.width) / 2, y + drawing.ascent, style.ink)
            if number:
                axis = y + drawing.ascent - 0.25 * style.pixels
                number.paint(canvas, x + width - number.MaxIntrinsicWidth, axis - number.Height / 2)

        height = drawing.ascent + drawing.descent
        return BlockDrawing("equation", rf"\[{latex}\]", rf"\[{latex}\]", height, paint)

    def table(self, width: float) -> BlockDrawing:
        stream, style = self._stream, self._style
        rows = self._rows(stream.integer(2, 6), stream.integer(2, 5))
        pad = 0.5 * style.pixels
        cells = [
            [self._set(text, None, bold=row == 0, alignment="left", line_height=1.2) for text in texts]
            for row, texts in enumerate(rows)
        ]
        widths = [
            max(cell.MaxIntrinsicWidth for cell in column) + 2 * pad for column in zip(*cells, strict=True)
        ]
        while sum(widths) > width and len(widths) > 1:  # the last columns leave picture and label together
            widths, cells, rows = widths[:-1], [row[:-1] for row in cells], [row[:-1] for row in rows]
        total, spare = sum(widths), width - sum(widths)
        step = max(cell.Height for row in cells for cell in row) + 0.5 * pad
        if stream.chance(0.5) and spare > 0:
            widths = [column * width / total for column in widths]
            total = width
        starts = [sum(widths[:column]) for column in range(len(widths) + 1)]
        height, left = step * len(rows), (width - total) / 2
        mirrored = style.script.right_to_left

        def paint(canvas: skia.Canvas, x: float, y: float) -> None:
            self._table_ground(canvas, x + left, y, starts, step, len(rows))
            for row, line in enumerate(cells):
                for column, cell in enumerate(line):
                    at = (
                        total - starts[column] - pad - cell.MaxIntrinsicWidth
                        if mirrored
                        else starts[column] + pad
                    )
                    cell.paint(canvas, x + left + at, y + row * step + (step - cell.Height) / 2)

        return BlockDrawing("table", html_table(rows), html_table(rows), height, paint)

    def _rows(self, lines: int, columns: int) -> list[list[str]]:
        """A head, then rows that open with a name; the other cells hold numbers, a few words, or nothing."""
        stream, language = self._stream, self._style.script.language
        forms = [stream.choice(("integer", "decimal", "percent", "words")) for _ in range(columns)]

        def cell(form: str) -> str:
            if stream.chance(0.06):
                return ""
            if form == "words":
                return heading(language, stream, stream.integer(1, 2))
            value = stream.integer(0, 99999)
            return str(value) if form == "integer" else f"{value / 100:.2f}{'%' if form == 'percent' else ''}"

        head = [heading(language, stream, 1) for _ in range(columns + 1)]
        if stream.chance(0.4):
            head[0] = ""
        return [head] + [[heading(language, stream, 1), *map(cell, forms)] for _ in range(lines)]

    def _table_ground(
        self, canvas: skia.Canvas, x: float, y: float, starts: list[float], step: float, rows: int
    ) -> None:
        """Shading and lines; they belong to the table and to its box."""
        style = self._style
        right, bottom = x + starts[-1], y + rows * step
        if style.table_lines == "shaded":
            fill = skia.Paint(Color=style.fill)
            for row in range(0, rows, 2):
                canvas.drawRect(skia.Rect(x, y + row * step, right, y + (row + 1) * step), fill)
            return
        line = skia.Paint(AntiAlias=True, Color=style.ink, StrokeWidth=max(1.0, 0.07 * style.pixels))
        across = range(rows + 1) if style.table_lines == "grid" else (0, 1, rows)
        for row in across:
            canvas.drawLine(x, y + row * step, right, y + row * step, line)
        if style.table_lines == "grid":
            for start in starts:
                canvas.drawLine(x + start, y, x + start, bottom, line)

    def figure(self, picture: np.ndarray, width: float, tallest: float) -> BlockDrawing:
        """A picture [H, W] or [H, W, C], made smaller to fit; it says nothing, its caption does."""
        high, wide = picture.shape[:2]
        scale = min(1.0, width / wide, tallest / high)
        size = max(1, int(wide * scale)), max(1, int(high * scale))
        if scale < 1:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        if picture.ndim == 2:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGBA)
        elif picture.shape[2] == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        left = (width - size[0]) / 2

        def paint(canvas: skia.Canvas, x: float, y: float) -> None:
            image = skia.Image.fromarray(np.ascontiguousarray(picture), colorType=skia.kRGBA_8888_ColorType)
            canvas.drawImage(image, x + left, y)

        return BlockDrawing("image", "", "", size[1], paint, (left, *size))

    def caption(self, of: str, width: float) -> BlockDrawing:
        """Of a "figure" or a "table", counted each."""
        script, stream = self._style.script, self._stream
        self._counts[of] += 1
        name = script.figure if of == "figure" else script.table
        words = heading(script.language, stream, stream.integer(2, 9))
        text = f"{name} {self._counts[of]}: {words}"
        label = "image_caption" if of == "figure" else "table_caption"
        return _of_paragraph(label, self._set(text, width, 0.9, alignment="center"), text, text)


def _of_paragraph(label: str, paragraph: skia.textlayout.Paragraph, text: str, plain: str) -> BlockDrawing:
    return BlockDrawing(label, text, plain, paragraph.Height, paragraph.paint)
