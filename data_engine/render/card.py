"""Cards: a short random text on a small gray image, the first thing that a small model learns to read."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_engine.errors import ConfigError
from data_engine.fonts import font_file
from data_engine.options import CardOptions
from data_engine.prompts import FREE_OCR
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import Rendered, Renderer
from data_engine.render.graphics import (
    font,
    font_versions,
    graphics_versions,
    gray_surface,
    missing_characters,
    skia,
)
from data_engine.render.png import encode

_MARGIN = 0.06  # of the side, kept free all around
_LINE_HEIGHT = 1.2  # of the font size


class CardRenderer(Renderer):
    def __init__(self, options: CardOptions) -> None:
        self._options = options
        low, high = options.font_pixels or (0.17 * options.size, 0.28 * options.size)
        self._font_pixels = (low, high)
        for family in options.fonts:
            missing = missing_characters(font_file(family, False), options.alphabet)
            if missing:
                raise ConfigError(
                    f"options.alphabet holds '{missing[0]}', which the font {family} cannot draw: take it out, or "
                    "choose options.fonts that can."
                )

    def versions(self) -> dict[str, str]:
        return graphics_versions() | font_versions(self._options.fonts)

    def render(self, draws: Draws) -> Rendered:
        options = self._options
        text = _random_text(draws.stream("content"), options)
        style = draws.stream("style")
        pixels, surface = gray_surface(options.size, options.size)
        ink, paper = style.integer(0, 70), style.integer(205, 255)
        inverted = style.chance(options.inverted)
        if inverted:
            ink, paper = 255 - ink, 255 - paper
        canvas = surface.getCanvas()
        canvas.clear(skia.ColorSetRGB(paper, paper, paper))
        family, bold = style.choice(options.fonts), style.chance(options.bold)
        self._draw_text(canvas, text, font_file(family, bold), style, skia.ColorSetRGB(ink, ink, ink))
        if options.noise > 0:
            _add_noise(pixels, options.noise, draws.stream("noise"))
        details = {"family": family, "bold": bold, "inverted": inverted}
        return Rendered((encode(pixels),), FREE_OCR, text, "card", details)

    def _draw_text(self, canvas: skia.Canvas, text: str, path: Path, style: Stream, ink: int) -> None:
        options = self._options
        room = options.size * (1 - 2 * _MARGIN)
        fewest, most = (min(lines, len(text)) for lines in options.lines)
        lines = _wrapped(text, style.integer(fewest, most))
        wanted = style.uniform(*self._font_pixels)
        widest = max(font(path, 100.0).measureText(line) for line in lines) / 100.0  # at one pixel
        fitting = min(room / widest, room / (_LINE_HEIGHT * len(lines)))
        # Quarter pixels: few enough sizes that the fonts can be kept.
        pixels = max(4.0, math.floor(4 * min(wanted, fitting)) / 4)
        face = font(path, pixels)
        bounds = [_ink(face, line) for line in lines]
        above, below = -bounds[0].top(), bounds[-1].bottom()
        width, height = widest * pixels, (len(lines) - 1) * _LINE_HEIGHT * pixels + above + below
        free_x, free_y = max(0.0, room - width), max(0.0, room - height)
        left = options.size * _MARGIN + free_x * (0.5 + options.jitter * style.uniform(-0.5, 0.5))
        top = options.size * _MARGIN + free_y * (0.5 + options.jitter * style.uniform(-0.5, 0.5))
        paint = skia.Paint(AntiAlias=True, Color=ink)
        for number, line in enumerate(lines):
            baseline = top + above + number * _LINE_HEIGHT * pixels
            canvas.drawString(line, left, baseline, face, paint)


def _ink(face: skia.Font, line: str) -> skia.Rect:
    """Where the ink of a line lies, relative to its start on the baseline."""
    bounds = skia.Rect()
    face.measureText(line, skia.TextEncoding.kUTF8, bounds)
    return bounds


def _random_text(stream: Stream, options: CardOptions) -> str:
    """Random characters; a blank never stands at an end or beside another, where it could not be seen."""
    visible = [character for character in options.alphabet if not character.isspace()]
    length = stream.integer(*options.length)
    text = ""
    for place in range(length):
        blank_is_seen = 0 < place < length - 1 and text[-1] != " "
        text += stream.choice(options.alphabet if blank_is_seen else visible)
    return text


def _wrapped(text: str, lines: int) -> list[str]:
    """The text in `lines` pieces of nearly equal length."""
    edges = [round(len(text) * line / lines) for line in range(lines + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


def _add_noise(pixels: np.ndarray, amplitude: float, stream: Stream) -> None:
    """Add uniform noise in place. The raw bits of a bit generator are stable across versions of numpy."""
    raw = np.random.PCG64(stream.bits()).random_raw(-(-pixels.size // 8)).view(np.uint8)[: pixels.size]
    noise = (raw.reshape(pixels.shape).astype(np.float32) / 127.5 - 1.0) * amplitude
    np.copyto(pixels, np.clip(pixels + noise, 0, 255).astype(np.uint8))
