"""Synthetic documents: columns of blocks with exact boxes, answered with boxes or as text alone.

A box is read off the pixels: each block is drawn into a cell of its own, and what it inked there is its box.
Figures are drawn by the other kinds, as the paper's pages hold charts and drawings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_engine.document_options import DocumentOptions
from data_engine.fonts import CHINESE_FAMILY
from data_engine.kinds import KINDS, make_renderer
from data_engine.options import width_and_height
from data_engine.prompts import FREE_OCR
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.document_blocks import BlockDrawing, BlockMaker, BlockStyle
from data_engine.render.graphics import color_surface, file_versions, graphics_versions, gray_surface, skia
from data_engine.render.grounded import grounded_page
from data_engine.render.jpeg import encode_page
from data_engine.render.paragraphs import document_font_file
from data_engine.render.user_fonts import font_name
from data_engine.render.writing import writing

_FAMILY_WEIGHTS = {"sans": 0.35, "serif": 0.3, "stix": 0.3, "mono": 0.05, CHINESE_FAMILY: 1.0}
_LEAST_CHART = 256  # pixels: smaller charts are rarely legible
_VISIBLE = 6  # grey levels: what differs less from the paper is no ink
_LARGEST_FIGURE = 512


@dataclass(frozen=True)
class Placed:
    """A block with the upper left corner of its cell and its box, all in pixels."""

    block: BlockDrawing
    x: float
    y: float
    cell: tuple[float, float, float, float]
    """(left, top, right, bottom): nothing else is drawn in here."""


@dataclass(frozen=True)
class PageStyle:
    """What the blocks do not decide. Lengths in pixels."""

    blocks: BlockStyle
    columns: int
    margin: float
    gap: float
    """Between blocks."""
    gutter: float
    """Between columns."""
    paper: tuple[int, int, int]
    colored: bool
    column_lines: bool


class DocumentRenderer(Renderer):
    def __init__(self, options: DocumentOptions) -> None:
        self._options = options
        self._width, self._height = width_and_height(options.size)
        longer = max(self._width, self._height)
        self._font_pixels = options.font_pixels or (max(8.0, 0.0115 * longer), max(9.0, 0.017 * longer))
        self._writing = writing(
            options.language_weights(), _FAMILY_WEIGHTS, options.fonts, options.words_file, more=("stix",)
        )
        self._figures = self._figure_renderers()

    def _figure_renderers(self) -> dict[str, Renderer]:
        options = self._options
        side = max(64, min(_LARGEST_FIGURE, int(0.4 * min(self._width, self._height))))
        sizes: dict[str, Any] = {"geometry": side, "chemistry": side, "chart": [int(1.25 * side), side]}
        wanted = dict.fromkeys(options.figure_kinds if options.figures > 0 else [])
        kinds = [kind for kind in wanted if kind != "chart" or side >= _LEAST_CHART]
        more: dict[str, dict[str, Any]] = {"chart": {"sides": [1.0, 1.0]}}  # a figure fills its place
        return {
            kind: make_renderer(kind, KINDS[kind].options(size=sizes[kind], **more.get(kind, {})))
            for kind in kinds
        }

    def versions(self) -> dict[str, str]:
        italic = document_font_file("stix", False).with_name("STIXGeneralItalic.ttf")
        versions = graphics_versions() | file_versions([italic]) | dict(self._writing.versions)
        for renderer in self._figures.values():
            versions |= renderer.versions()
        return versions

    def close(self) -> None:
        for renderer in self._figures.values():
            renderer.close()

    def render(self, draws: Draws) -> Rendered:
        options = self._options
        style = self._style(draws.stream("style"))
        placed = self._layout(draws, style)
        pixels, boxes = self._draw(style, placed)
        grounded = draws.stream("prompt").chance(options.grounding)
        details = _told(style, placed)
        picture = encode_page(pixels, options.jpeg_quality)
        if not grounded:
            text = "\n\n".join(place.block.plain for place in placed if place.block.plain)
            return Rendered((picture,), FREE_OCR, text, "document", details)
        blocks = [
            (place.block.label, box, place.block.text) for place, box in zip(placed, boxes, strict=True)
        ]
        return grounded_page(picture, blocks, self._width, self._height, "document", details)

    def _style(self, stream: Stream) -> PageStyle:
        options = self._options
        language = self._writing.language(stream)
        script, family = self._writing.scripts[language], self._writing.family(stream, language)
        pixels = float(round(stream.uniform(*self._font_pixels)))  # whole: skia keeps glyphs of few sizes
        colored = stream.chance(options.color)
        ink, light = stream.integer(0, 55), stream.integer(236, 255)
        heading_color = [stream.integer(0, 140) if colored else ink for _ in range(3)]
        paper = [light - (stream.integer(0, 14) if colored else 0) for _ in range(3)]
        fill = [max(0, value - stream.integer(12, 40) if colored else value - 26) for value in paper]
        # A line of less than some twelve letters is torn.
        most = max(1, int(0.86 * self._width / (pixels * 11)))
        low, high = options.columns
        blocks = BlockStyle(
            script=script,
            family=family,
            pixels=pixels,
            line_height=stream.uniform(1.2, 1.55),
            alignment="justified" if stream.chance(0.5) else "left",
            ink=_argb([ink] * 3),
            heading_ink=_argb(heading_color),
            fill=_argb(fill),
            table_lines=stream.choice(("grid", "rules", "shaded")),
            numbered=stream.chance(0.4),
        )
        return PageStyle(
            blocks=blocks,
            columns=min(most, stream.integer(low, high)),
            margin=stream.uniform(0.05, 0.09) * self._width,
            gap=stream.uniform(0.7, 1.2) * pixels,
            gutter=stream.uniform(1.8, 2.6) * pixels,
            paper=(paper[0], paper[1], paper[2]),
            colored=colored,
            column_lines=stream.chance(0.15),
        )

    def _layout(self, draws: Draws, style: PageStyle) -> list[Placed]:
        """Blocks in reading order, columns filled one after the other until the page or the blocks end."""
        stream = draws.stream("content")
        maker = BlockMaker(self._writing.typesetter, style.blocks, stream)
        placed: list[Placed] = []
        top, bottom = style.margin, self._height - style.margin
        room = self._width - 2 * style.margin
        half = style.gap / 2
        if stream.chance(0.7):
            title = maker.title(room)
            if top + title.height < bottom:
                cell = (
                    style.margin - half,
                    top - half,
                    style.margin + room + half,
                    top + title.height + half,
                )
                placed.append(Placed(title, style.margin, top, cell))
                top += title.height + 1.5 * style.gap
        width = (room - style.gutter * (style.columns - 1)) / style.columns
        column, y = 0, top
        remaining = stream.integer(*self._options.blocks)
        while remaining > 0:
            group = self._group(maker, stream, draws, remaining, width, bottom - top)
            remaining -= max(1, len(group))
            height = sum(block.height for block in group) + style.gap * (len(group) - 1)
            if y + height > bottom:
                column, y = column + 1, top
                if column == style.columns or y + height > bottom:
                    break
            from_left = style.columns - 1 - column if style.blocks.script.right_to_left else column
            x = style.margin + from_left * (width + style.gutter)
            for block in group:
                side = style.gutter / 2 - 1
                cell = (x - side, y - half, x + width + side, y + block.height + half)
                placed.append(Placed(block, x, y, cell))
                y += block.height + style.gap
        if not placed:
            raise NoSampleError(
                "no block fits on the page", "make options.size larger or options.font_pixels smaller"
            )
        return placed

    def _group(
        self, maker: BlockMaker, stream: Stream, draws: Draws, remaining: int, width: float, tallest: float
    ) -> list[BlockDrawing]:
        """Blocks that stay together: a heading and its text, a figure or a table and its caption."""
        options = self._options
        shares = {
            "list": options.lists,
            "table": options.tables,
            "equation": options.formulas,
            "figure": options.figures if self._figures else 0.0,
        }
        text = max(0.0, 1 - sum(shares.values()))
        form = stream.weighted({**shares, "heading": 0.25 * text, "paragraph": 0.75 * text + 1e-9})
        captioned = remaining > 1 and stream.chance(0.6)
        if form == "list":
            return [maker.items(width)]
        if form == "table":
            caption = [maker.caption("table", width)] if captioned else []
            return [*caption, maker.table(width)]
        if form == "equation":
            equation = maker.equation(width)
            return [equation] if equation else [maker.paragraph(width)]
        if form == "figure":
            picture = self._figure(stream, draws, remaining)
            if picture is not None:
                figure = maker.figure(picture, width, 0.45 * tallest)
                return [figure, *([maker.caption("figure", width)] if captioned else [])]
        if form == "heading" and remaining > 1:
            return [maker.subtitle(width), maker.paragraph(width)]
        return [maker.paragraph(width)]

    def _figure(self, stream: Stream, draws: Draws, number: int) -> np.ndarray | None:
        """A picture of another kind; None where that kind has none by its own rules."""
        kind = stream.choice(list(self._figures))
        index = draws.index * self._options.blocks[1] + number
        try:
            rendered = self._figures[kind].render(Draws(draws.seed, f"{draws.kind}/{kind}", index))
        except NoSampleError:
            return None
        return rendered.pictures[0].pixels

    def _draw(self, style: PageStyle, placed: Iterable[Placed]) -> tuple[np.ndarray, list[tuple]]:
        """The page and the box of each block in pixels (left, top, right, bottom)."""
        surface_of = color_surface if style.colored else gray_surface
        pixels, surface = surface_of(self._width, self._height)
        canvas = surface.getCanvas()
        canvas.clear(_argb(style.paper))
        for place in placed:
            place.block.paint(canvas, place.x, place.y)
        boxes = [self._box(pixels, style.paper, place) for place in placed]
        if style.column_lines:
            self._draw_column_lines(canvas, style, placed)
        return pixels, boxes

    def _box(self, pixels: np.ndarray, paper: tuple[int, int, int], place: Placed) -> tuple:
        if place.block.frame:
            shift, wide, high = place.block.frame
            left, top = place.x + shift, place.y
            return math.floor(left), math.floor(top), math.ceil(left + wide), math.ceil(top + high)
        left, top = max(0, math.floor(place.cell[0])), max(0, math.floor(place.cell[1]))
        region = pixels[top : math.ceil(place.cell[3]), left : math.ceil(place.cell[2])]
        level = (paper[0],) if pixels.ndim == 2 else (*paper, 255)
        same = cv2.inRange(
            region, tuple(value - _VISIBLE for value in level), tuple(value + _VISIBLE for value in level)
        )
        x, y, wide, high = cv2.boundingRect(cv2.bitwise_not(same))
        return left + x, top + y, left + x + wide, top + y + high

    def _draw_column_lines(self, canvas: skia.Canvas, style: PageStyle, placed: Iterable[Placed]) -> None:
        """Lines between the columns, clear of all cells."""
        columns = sorted({place.x for place in placed if place.block.label != "title"})
        tops = [place.y for place in placed if place.block.label != "title"]
        paint = skia.Paint(Color=style.blocks.ink, StrokeWidth=1, AntiAlias=False)
        for x in columns[1:]:
            at = round(x - style.gutter / 2)
            canvas.drawLine(at, min(tops), at, self._height - style.margin, paint)


def _argb(color: Iterable[int]) -> int:
    red, green, blue = color
    return 0xFF000000 | red << 16 | green << 8 | blue


def _told(style: PageStyle, placed: Iterable[Placed]) -> dict[str, Any]:
    """The style of a page and what it holds, for its provenance."""
    blocks = style.blocks
    labels = [place.block.label for place in placed]
    return {
        "language": blocks.script.language.code,
        "family": font_name(blocks.family),
        "columns": style.columns,
        "column_lines": style.column_lines,
        "alignment": blocks.alignment,
        "table_lines": blocks.table_lines if "table" in labels else "no table",
        "numbered": blocks.numbered,
        "colored": style.colored,
        "blocks": len(labels),
        "holds": sorted(set(labels)),
    }
