"""Pages: title, columns of paragraphs, a list; the label is the text in reading order, as a person copies it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from data_engine.fonts import CHINESE_FAMILY, LATIN_FAMILIES, font_file
from data_engine.options import PageOptions
from data_engine.prompts import FREE_OCR
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.graphics import font, font_versions, graphics_versions, gray_surface, skia
from data_engine.render.png import encode
from data_engine.render.text_layout import Line, break_lines, draw_line
from data_engine.words import LANGUAGES, Language, heading, sentence

_SMALLEST_FONT = 7.0  # pixels: below that letters cannot be told apart
_TITLE_SCALE = 1.45


@dataclass(frozen=True)
class Block:
    """A paragraph or a list item."""

    text: str
    mark: str = ""
    """What a list item opens with: "•" or "2."."""
    gap_before: bool = True
    """False for the second and later items of a list."""

    @property
    def label(self) -> str:
        return f"{self.mark} {self.text}" if self.mark else self.text


@dataclass(frozen=True)
class Page:
    """What stands on a page."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def label(self) -> str:
        text = self.title
        for block in self.blocks:
            text += ("\n\n" if block.gap_before and text else "\n" if text else "") + block.label
        return text


@dataclass(frozen=True)
class Style:
    """How it is set. Lengths in pixels."""

    family: str
    ink: int
    paper: int
    columns: int
    margin: float
    line_height: float
    """In font sizes."""
    indent: float
    """Of a paragraph's first line, in font sizes."""
    justified: bool
    centred_title: bool
    ruled_title: bool


@dataclass(frozen=True)
class _Placed:
    """A line with its place on the page."""

    line: Line
    x: float
    baseline: float
    width: float
    mark: str = ""
    mark_x: float = 0.0
    is_title: bool = False


class PageRenderer(Renderer):
    def __init__(self, options: PageOptions) -> None:
        self._options = options
        self._width, self._height = options.width_and_height
        side = min(self._width, self._height)
        low, high = options.font_pixels or (max(9.0, 0.025 * side), max(11.0, 0.038 * side))
        self._font_pixels = (low, high)
        if "zh" in options.languages:
            font_file(CHINESE_FAMILY, False)  # refuses at once when it was not fetched

    def versions(self) -> dict[str, str]:
        chinese = (CHINESE_FAMILY,) if "zh" in self._options.languages else ()
        return graphics_versions() | font_versions((*LATIN_FAMILIES, *chinese))

    def render(self, draws: Draws) -> Rendered:
        content = draws.stream("content")
        language = LANGUAGES[content.choice(self._options.languages)]
        page = self._content(content, language)
        styles = draws.stream("style")
        style = self._style(styles, language)
        pixels = styles.uniform(*self._font_pixels)
        # What does not fit is set smaller; what still does not fit is taken off the page and off the label.
        while (placed := self._layout(page, style, pixels)) is None:
            if pixels > _SMALLEST_FONT:
                pixels = max(_SMALLEST_FONT, pixels * 0.93)
            else:
                page = _shortened(page)
        picture = self._draw(style, pixels, placed)
        details = {
            "language": language.code,
            "family": style.family,
            "columns": style.columns,
            "alignment": "justified" if style.justified else "left",
            "indented": style.indent > 0,
            "title": "none" if not page.title else "centred" if style.centred_title else "left",
            "list": any(block.mark for block in page.blocks),
        }
        return Rendered((encode(picture),), FREE_OCR, page.label, "page", details)

    def _content(self, stream: Stream, language: Language) -> Page:
        options = self._options
        remaining = stream.integer(*options.words)
        title = ""
        if stream.chance(options.titles):
            title = heading(language, stream, min(remaining, stream.integer(2, 5)))
            remaining -= len(title.split()) if language.separator else 3
        blocks: list[Block] = []
        list_place = stream.integer(1, 3) if stream.chance(options.lists) else -1
        while remaining > 0:
            if len(blocks) == list_place:
                numbered, items = stream.chance(0.5), stream.integer(2, 4)
                for item in range(items):
                    count = stream.integer(2, 6)
                    mark = f"{item + 1}." if numbered else "•"
                    blocks.append(Block(heading(language, stream, count), mark, item == 0))
                    remaining -= count
                continue
            sentences: list[str] = []
            for _ in range(stream.integer(1, 4)):
                if remaining > 0:
                    count = min(max(remaining, 3), stream.integer(5, 13))
                    sentences.append(sentence(language, stream, count))
                    remaining -= count
            blocks.append(Block(language.separator.join(sentences)))
        return Page(title, tuple(blocks))

    def _style(self, stream: Stream, language: Language) -> Style:
        families = {"sans": 0.45, "serif": 0.45, "mono": 0.1}
        chinese = language.code == "zh"
        return Style(
            family=CHINESE_FAMILY if chinese else stream.weighted(families),
            ink=stream.integer(0, 60),
            paper=stream.integer(225, 255),
            columns=stream.integer(*self._options.columns),
            margin=stream.uniform(0.05, 0.09) * self._width,
            line_height=stream.uniform(1.25, 1.55) + (0.15 if chinese else 0.0),
            indent=(2.0 if chinese else 1.5) if stream.chance(0.5) else 0.0,
            justified=stream.chance(0.5),
            centred_title=stream.chance(0.5),
            ruled_title=stream.chance(0.25),
        )

    def _layout(self, page: Page, style: Style, pixels: float) -> list[_Placed] | None:
        """Where every line goes; None when the page is too small for it."""
        body = font(font_file(style.family, False), _quarter(pixels))
        step = style.line_height * pixels
        top, bottom = style.margin, self._height - style.margin
        placed: list[_Placed] = []
        room = self._width - 2 * style.margin
        if page.title:
            big = _quarter(_TITLE_SCALE * pixels)
            lines = break_lines(page.title, font(font_file(style.family, True), big), room)
            if lines is None:
                return None
            for line in lines:
                top += 1.2 * big
                x = style.margin + (room - line.width) / 2 if style.centred_title else style.margin
                placed.append(_Placed(line, x, top, room, is_title=True))
            top += 0.9 * big
        gutter = 1.6 * pixels
        width = (room - gutter * (style.columns - 1)) / style.columns
        flow: list[tuple[float, Line, float, str]] = []  # (gap before, line, x in the column, mark)
        for block in page.blocks:
            inset = 1.7 * pixels if block.mark else 0.0
            indent = 0.0 if block.mark else style.indent * pixels
            lines = break_lines(block.text, body, width - inset, indent)
            if lines is None:
                return None
            for number, line in enumerate(lines):
                gap = 0.55 * step if number == 0 and block.gap_before and flow else 0.0
                shift = inset + (indent if number == 0 else 0.0)
                flow.append((gap, line, shift, block.mark if number == 0 else ""))
        total = sum(gap + step for gap, *_ in flow)
        # Columns of equal height; one line more, because a column cannot end inside a line.
        limit = min(bottom, top + total / style.columns + (step if style.columns > 1 else 0.01))
        column, y = 0, top
        for gap, line, shift, mark in flow:
            if y + gap + step > limit and column + 1 < style.columns:
                column, y = column + 1, top
                gap = 0.0
            y += gap + step
            left = style.margin + column * (width + gutter)
            placed.append(
                _Placed(line, left + shift, y - 0.25 * step, width - shift, mark, left + 0.2 * pixels)
            )
        return placed if y <= bottom and column < style.columns else None

    def _draw(self, style: Style, pixels: float, placed: list[_Placed]) -> np.ndarray:
        picture, surface = gray_surface(self._width, self._height)
        canvas = surface.getCanvas()
        canvas.clear(skia.ColorSetRGB(style.paper, style.paper, style.paper))
        paint = skia.Paint(AntiAlias=True, Color=skia.ColorSetRGB(style.ink, style.ink, style.ink))
        body = font(font_file(style.family, False), _quarter(pixels))
        titles = font(font_file(style.family, True), _quarter(_TITLE_SCALE * pixels))
        for place in placed:
            if place.is_title:
                draw_line(canvas, place.line, place.x, place.baseline, None, titles, paint)
                continue
            width = place.width if style.justified else None
            draw_line(canvas, place.line, place.x, place.baseline, width, body, paint)
            if place.mark:
                canvas.drawString(place.mark, place.mark_x, place.baseline, body, paint)
        title_lines = [place for place in placed if place.is_title]
        if style.ruled_title and title_lines:
            y = title_lines[-1].baseline + 0.5 * pixels
            paint.setStrokeWidth(max(1.0, 0.06 * pixels))
            canvas.drawLine(style.margin, y, self._width - style.margin, y, paint)
        return picture


def _quarter(pixels: float) -> float:
    """Rounded down to quarter pixels: few enough font sizes that the fonts can be kept."""
    return math.floor(4 * pixels) / 4


def _shortened(page: Page) -> Page:
    """The page without its last block, or without the last words of its only one."""
    if len(page.blocks) > 1:
        return replace(page, blocks=page.blocks[:-1])
    if page.blocks and len(page.blocks[0].text) > 1:
        text = page.blocks[0].text
        half = text[: len(text) // 2]
        cut = half.rsplit(" ", 1)[0] if " " in half else half
        return replace(page, blocks=(replace(page.blocks[0], text=cut),))
    raise NoSampleError("no text fits on the page", "make options.size larger or options.font_pixels smaller")
