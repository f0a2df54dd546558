"""Text on a page, for the study of optical compression: length, resolution, font and spacing are what is given.

The label is exactly the text that is drawn: its units are counted, so many are taken and no more, and what
does not fit is set smaller, runs on over more pages, or is skipped; it is never cut.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_engine.document_options import TextPageOptions
from data_engine.languages import RIGHT_TO_LEFT, SCRIPTS, WORDS, Script
from data_engine.prompts import FREE_OCR
from data_engine.random_stream import Draws, Stream, permuted
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.graphics import file_versions, graphics_versions, gray_surface, skia
from data_engine.render.jpeg import encode_page
from data_engine.render.paragraphs import Typesetter, document_font_file, undrawable
from data_engine.render.user_fonts import font_hashes, font_name, font_paths
from data_engine.render.writing import LAST_FAMILY, words_of_user
from data_engine.sample import IMAGE_PLACEHOLDER
from data_engine.sources.texts import Texts
from data_engine.words import sentence

_SMALLEST_FONT = 4.0  # pixels: below that no letter can be told from another
_LETTER = re.compile(r"[^\W\d_]")


class TextPageRenderer(Renderer):
    def __init__(self, options: TextPageOptions) -> None:
        self._options = options
        self._width, self._height = options.pixels
        self._fonts = font_paths(options.fonts)
        last = tuple(dict.fromkeys((options.family, LAST_FAMILY))) if self._fonts else ()
        self._families = last or (options.family,)
        self._typesetter = Typesetter(self._families, self._fonts, last)
        self._texts = Texts(Path(options.text)) if options.text is not None else None
        self._languages = {code: weight for code, weight in options.language_weights().items() if weight}
        self._scripts = SCRIPTS
        if options.words_file is not None:
            self._languages = {WORDS: 1.0}
            self._scripts = {WORDS: words_of_user(options.words_file, (*self._fonts, *self._families))}

    def versions(self) -> dict[str, str]:
        files = {document_font_file(family, bold) for family in self._families for bold in (False, True)}
        if self._options.words_file is not None:
            files.add(Path(self._options.words_file))
        text = {"text": self._texts.sha256[:16]} if self._texts else {}
        return graphics_versions() | file_versions(files) | font_hashes(self._fonts) | text

    def render(self, draws: Draws) -> Rendered:
        options = self._options
        stream = draws.stream("content")
        count = stream.integer(*options.length)
        if self._texts:
            paragraphs, place = self._excerpt(self._texts, draws, stream, count)
        else:
            paragraphs, place = self._random(stream, count), f"sample {draws.index}"
        missing = undrawable("".join(paragraphs), *self._fonts, *self._families)
        if missing:
            unable = "none of the fonts can" if self._fonts else f"the font {options.family} cannot"
            raise NoSampleError(f"characters that {unable} draw", f"{place}: {missing[0]!r}")
        style = draws.stream("style")
        points = style.uniform(*options.font_points)
        family = style.choice(self._fonts) if self._fonts else options.family
        pages, drawn = self._draw(
            paragraphs, family, points * options.scale, f"{count} {options.units} of {place}"
        )
        details = {
            "units": count,
            "font_pixels": round(drawn, 3),
            "place": place,
            "family": font_name(family),
            "alignment": options.alignment,
            "pages": len(pages),
        }
        pictures = tuple(encode_page(page, options.jpeg_quality) for page in pages)
        prompt = FREE_OCR.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * len(pages))
        return Rendered(pictures, prompt, "\n\n".join(paragraphs), "text_page", details)

    def _excerpt(self, texts: Texts, draws: Draws, stream: Stream, count: int) -> tuple[list[str], str]:
        """`count` units in a row out of one document; every document once before any comes again."""
        turn, place = divmod(draws.index, len(texts))
        number = permuted(place, len(texts), f"{draws.seed}/{draws.kind}/{turn}")
        try:
            text = texts.read(number)
        except ValueError as error:
            raise NoSampleError("invalid text", f"{texts.place(number)}: {error}") from error
        return _cut(text, self._options.units, count, stream, texts.place(number)), texts.place(number)

    def _random(self, stream: Stream, count: int) -> list[str]:
        """Paragraphs of random sentences with exactly `count` units."""
        script = self._scripts[stream.weighted(self._languages)]
        text, units = "", self._options.units
        while len(_units(text, units)) < count:
            text += ("\n\n" if text else "") + self._paragraph(script, stream)
        return _cut(text, units, count, None, "")

    def _paragraph(self, script: Script, stream: Stream) -> str:
        language = script.language
        sentences = [sentence(language, stream, stream.integer(6, 16)) for _ in range(stream.integer(3, 8))]
        return language.separator.join(sentences)

    def _draw(
        self, paragraphs: list[str], family: str, pixels: float, what: str
    ) -> tuple[list[np.ndarray], float]:
        """The pages, and the font size that they were drawn with."""
        options = self._options
        across, down = (margin * options.scale for margin in options.margin_points)
        width, height = self._width - 2 * across, self._height - 2 * down
        while True:
            laid_out = [self._set(paragraph, family, pixels, width) for paragraph in paragraphs]
            step = options.line_spacing * pixels
            needed = sum(paragraph.Height for paragraph in laid_out) + 0.5 * step * (len(laid_out) - 1)
            wide = any(paragraph.MinIntrinsicWidth > width for paragraph in laid_out)
            if not wide and (needed <= height or options.overflow == "pages"):
                break
            # Lines times letters per line: the area of a text grows with the square of its font size.
            smaller = min(0.97, max(0.7, math.sqrt(height / needed)))
            if options.overflow != "shrink" or pixels * smaller < _SMALLEST_FONT:
                raise NoSampleError("text does not fit on the page", f"{what} at {pixels:.1f} pixels")
            pixels *= smaller
        pages = _broken(laid_out, step, height if options.overflow == "pages" else needed + step)
        if options.overflow == "pages" and len(pages) > options.pages_limit:
            raise NoSampleError(
                f"text needs more than options.pages_limit={options.pages_limit} pages",
                f"{what}: {len(pages)}",
            )
        return [self._page(parts, across, down) for parts in pages], pixels

    def _page(self, parts: list[_Part], across: float, down: float) -> np.ndarray:
        picture, surface = gray_surface(self._width, self._height)
        canvas = surface.getCanvas()
        canvas.clear(skia.ColorWHITE)
        for part in parts:
            top = down + part.y
            if part.whole:
                part.paragraph.paint(canvas, across, top)
                continue
            canvas.save()
            canvas.clipRect(skia.Rect(0, top, self._width, top + part.height))
            part.paragraph.paint(canvas, across, top - part.above)
            canvas.restore()
        return picture

    def _set(self, text: str, family: str, pixels: float, width: float) -> skia.textlayout.Paragraph:
        options = self._options
        first = _LETTER.search(text)
        return self._typesetter.paragraph(
            text,
            family,
            pixels,
            width,
            alignment=options.alignment,
            line_height=options.line_spacing,
            right_to_left=first is not None and RIGHT_TO_LEFT.match(first[0]) is not None,
        )


@dataclass(frozen=True)
class _Part:
    """Whole lines of a paragraph on one page. Lengths in pixels."""

    paragraph: skia.textlayout.Paragraph
    y: float
    """Below the margin of the page."""
    above: float
    """Height of the lines that stand on the pages before."""
    height: float

    @property
    def whole(self) -> bool:
        return self.above == 0 and self.height >= self.paragraph.Height - 0.01


def _broken(laid_out: list[skia.textlayout.Paragraph], step: float, height: float) -> list[list[_Part]]:
    """The pages of a text with lines about `step` pixels apart: as many of them as fit into `height`, at least one."""
    pages: list[list[_Part]] = [[]]
    y = 0.0
    for paragraph in laid_out:
        lines = max(1, round(paragraph.Height / step))
        line = paragraph.Height / lines  # the same for all: the style overrides what fonts would like
        y += 0.5 * step if pages[-1] else 0.0
        first = 0
        while first < lines:
            room = int((height - y) / line + 1e-6)
            if room < 1 and pages[-1]:
                pages.append([])
                y = 0.0
                continue
            last = min(lines, first + max(1, room))
            pages[-1].append(_Part(paragraph, y, first * line, (last - first) * line))
            y += (last - first) * line
            first = last
    return pages


def _units(text: str, units: str) -> list[str]:
    """The words, or the characters without blanks, of a text."""
    return text.split() if units == "words" else [character for character in text if not character.isspace()]


def _cut(text: str, units: str, count: int, stream: Stream | None, place: str) -> list[str]:
    """Paragraphs (one blank between words) that hold `count` units, from a random place or from the start."""
    pattern = r"\S+" if units == "words" else r"\S"
    found = list(re.finditer(pattern, text))
    if len(found) < count:
        raise NoSampleError(f"text with fewer {units} than asked for", f"{place}: {len(found)}, not {count}")
    first = stream.integer(0, len(found) - count) if stream else 0
    chosen = text[found[first].start() : found[first + count - 1].end()]
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", chosen)]
    return [paragraph for paragraph in paragraphs if paragraph]
