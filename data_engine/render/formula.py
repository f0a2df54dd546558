r"""Formulas: a small tree that is written as LaTeX and drawn with the STIX fonts.

Built for speed: a formula takes a tenth of a millisecond, matplotlib's mathtext takes fifteen. Only what is in
this file can be drawn: letters, numbers, operators, sub- and superscripts, fractions, roots, sums and integrals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise

from data_engine.fonts import latin_font_file
from data_engine.random_stream import Stream
from data_engine.render.graphics import font, skia

_GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "θ": r"\theta", "λ": r"\lambda",
    "μ": r"\mu", "π": r"\pi", "σ": r"\sigma", "φ": r"\varphi", "ω": r"\omega",
}  # fmt: skip
_RELATIONS = {"=": "=", "≤": r"\leq", "≥": r"\geq", "≈": r"\approx", "<": "<", ">": ">"}
_OPERATORS = {"+": "+", "−": "-", "·": r"\cdot", "×": r"\times"}
_LARGE = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int"}
_LETTERS = "abcdefghkmnpqrstuvwxyzABCDEFGHMNPQRSTVXYZ"
_SMALLER = 0.7
_AXIS = 0.25  # height of the fraction bar over the baseline, in font sizes


@dataclass
class Drawing:
    """Glyphs and bars in pixels around an origin on the baseline, y downward."""

    width: float = 0.0
    ascent: float = 0.0
    """How far the ink goes above the baseline."""
    descent: float = 0.0
    glyphs: list[tuple[str, str, float, float, float]] = field(default_factory=list)
    """(text, font file, font pixels, x, y)."""
    lines: list[tuple[tuple[float, float], ...]] = field(default_factory=list)
    """Polylines: fraction bars and roots."""
    stroke: float = 1.0

    def place(self, other: Drawing, x: float, y: float) -> None:
        """Put another drawing with its origin at (x, y); the width is left to the caller."""
        self.glyphs += [(text, file, size, gx + x, gy + y) for text, file, size, gx, gy in other.glyphs]
        self.lines += [tuple((px + x, py + y) for px, py in line) for line in other.lines]
        self.ascent = max(self.ascent, other.ascent - y)
        self.descent = max(self.descent, other.descent + y)

    def paint(self, canvas: skia.Canvas, x: float, y: float, color: int) -> None:
        """Draw with the origin at (x, y) of the canvas."""
        paint = skia.Paint(AntiAlias=True, Color=color)
        for text, file, size, gx, gy in self.glyphs:
            face = font(latin_font_file("sans", False).with_name(file), size)
            canvas.drawString(text, x + gx, y + gy, face, paint)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(self.stroke)
        for line in self.lines:
            for (ax, ay), (bx, by) in pairwise(line):
                canvas.drawLine(x + ax, y + ay, x + bx, y + by, paint)


class Formula(ABC):
    """A part of a formula."""

    @abstractmethod
    def latex(self) -> str:
        """As LaTeX, without delimiters."""

    @abstractmethod
    def draw(self, pixels: float) -> Drawing:
        """Laid out at a font size."""


@dataclass(frozen=True)
class Symbol(Formula):
    """A letter, a number, an operator."""

    text: str
    code: str
    italic: bool = False
    padding: float = 0.0
    """On both sides, in font sizes."""
    scale: float = 1.0

    def latex(self) -> str:
        return self.code

    def draw(self, pixels: float) -> Drawing:
        size = round(pixels * self.scale * 4) / 4
        file = "STIXGeneralItalic.ttf" if self.italic else "STIXGeneral.ttf"
        face = font(latin_font_file("sans", False).with_name(file), size)
        bounds = skia.Rect()
        advance = face.measureText(self.text, skia.TextEncoding.kUTF8, bounds)
        shift = -(bounds.top() + bounds.bottom()) / 2 - _AXIS * pixels if self.scale > 1 else 0.0
        pad = self.padding * pixels
        drawing = Drawing(advance + 2 * pad + (0.06 * size if self.italic else 0.0))
        drawing.glyphs.append((self.text, file, size, pad, shift))
        drawing.ascent, drawing.descent = -bounds.top() - shift, bounds.bottom() + shift
        return drawing


@dataclass(frozen=True)
class Row(Formula):
    """Parts side by side."""

    parts: tuple[Formula, ...]

    def latex(self) -> str:
        return " ".join(part.latex() for part in self.parts)

    def draw(self, pixels: float) -> Drawing:
        drawing = Drawing()
        for part in self.parts:
            drawn = part.draw(pixels)
            drawing.place(drawn, drawing.width, 0)
            drawing.width += drawn.width
        return drawing


@dataclass(frozen=True)
class Scripted(Formula):
    """A part with a sub- or superscript, or both; those of a sum stand under and over it."""

    base: Formula
    lower: Formula | None = None
    upper: Formula | None = None
    stacked: bool = False

    def latex(self) -> str:
        lower = f"_{{{self.lower.latex()}}}" if self.lower else ""
        upper = f"^{{{self.upper.latex()}}}" if self.upper else ""
        return f"{self.base.latex()}{lower}{upper}"

    def draw(self, pixels: float) -> Drawing:
        base = self.base.draw(pixels)
        lower = self.lower.draw(pixels * _SMALLER) if self.lower else Drawing()
        upper = self.upper.draw(pixels * _SMALLER) if self.upper else Drawing()
        if self.stacked:
            width, gap = max(base.width, lower.width, upper.width), 0.15 * pixels
            drawing = Drawing(width + 0.15 * pixels)
            drawing.place(base, (width - base.width) / 2, 0)
            drawing.place(lower, (width - lower.width) / 2, base.descent + gap + lower.ascent)
            drawing.place(upper, (width - upper.width) / 2, -base.ascent - gap - upper.descent)
            return drawing
        drawing = Drawing(base.width + max(lower.width, upper.width) + 0.05 * pixels)
        drawing.place(base, 0, 0)
        drawing.place(lower, base.width, max(0.22 * pixels, base.descent))
        drawing.place(upper, base.width, -max(0.4 * pixels, base.ascent - 0.3 * pixels))
        return drawing


@dataclass(frozen=True)
class Fraction(Formula):
    over: Formula
    under: Formula

    def latex(self) -> str:
        return rf"\frac{{{self.over.latex()}}}{{{self.under.latex()}}}"

    def draw(self, pixels: float) -> Drawing:
        over, under = self.over.draw(pixels), self.under.draw(pixels)
        pad, gap, axis = 0.12 * pixels, 0.18 * pixels, -_AXIS * pixels
        width = max(over.width, under.width) + 2 * pad
        drawing = Drawing(width + 2 * pad)
        drawing.place(over, pad + (width - over.width) / 2, axis - gap - over.descent)
        drawing.place(under, pad + (width - under.width) / 2, axis + gap + under.ascent)
        drawing.lines.append(((pad, axis), (pad + width, axis)))
        return drawing


@dataclass(frozen=True)
class Root(Formula):
    inner: Formula

    def latex(self) -> str:
        return rf"\sqrt{{{self.inner.latex()}}}"

    def draw(self, pixels: float) -> Drawing:
        inner = self.inner.draw(pixels)
        hook, top, low = 0.6 * pixels, -inner.ascent - 0.18 * pixels, max(inner.descent, 0.1 * pixels)
        drawing = Drawing(hook + inner.width + 0.1 * pixels)
        drawing.place(inner, hook, 0)
        corner = (0.0, -0.3 * pixels), (0.12 * pixels, -0.38 * pixels), (0.32 * pixels, low)
        drawing.lines.append((*corner, (hook - 0.05 * pixels, top), (drawing.width - 0.05 * pixels, top)))
        drawing.ascent, drawing.descent = max(drawing.ascent, -top), max(drawing.descent, low)
        return drawing


def random_formula(stream: Stream) -> Formula:
    """An equation of two to four terms."""
    left: tuple[Formula, ...] = (_term(stream, 1),)
    right = _sum_of_terms(stream, stream.integer(1, 3), 0)
    relation = stream.choice(tuple(_RELATIONS))
    return Row((*left, Symbol(relation, _RELATIONS[relation], padding=0.28), *right.parts))


def _sum_of_terms(stream: Stream, count: int, depth: int) -> Row:
    parts: list[Formula] = [_term(stream, depth)]
    for _ in range(count - 1):
        operator = stream.choice(tuple(_OPERATORS))
        parts += [Symbol(operator, _OPERATORS[operator], padding=0.22), _term(stream, depth)]
    return Row(tuple(parts))


def _term(stream: Stream, depth: int) -> Formula:
    """A term; deeper ones are simpler."""
    weights = {"letter": 3.0, "number": 1.0, "power": 2.0, "index": 1.5}
    if depth < 2:
        weights |= {"fraction": 2.5, "root": 1.0}
    if depth == 0:
        weights["large"] = 1.5
    form = stream.weighted(weights)
    if form == "number":
        return _number(stream)
    if form == "power":
        return Scripted(_letter(stream), upper=_number(stream, 9) if stream.chance(0.7) else _letter(stream))
    if form == "index":
        upper = _number(stream, 9) if stream.chance(0.3) else None
        return Scripted(_letter(stream), lower=_number(stream, 12), upper=upper)
    if form == "fraction":
        return Fraction(
            _sum_of_terms(stream, stream.integer(1, 2), depth + 1), _sum_of_terms(stream, 1, depth + 1)
        )
    if form == "root":
        return Root(_sum_of_terms(stream, stream.integer(1, 2), depth + 1))
    if form == "large":
        sign = stream.choice(tuple(_LARGE))
        index = stream.choice("ijk")
        first = Symbol("=", "=", padding=0.05)
        lower = Row((Symbol(index, index, italic=True), first, _number(stream, 9)))
        bounds: tuple[Formula, Formula] = (lower, _letter(stream))
        if sign == "∫":
            bounds = (_number(stream, 9), _letter(stream))
        large = Symbol(sign, _LARGE[sign], scale=1.5, padding=0.14 if sign == "∫" else 0.04)
        return Row((Scripted(large, *bounds, stacked=sign != "∫"), _term(stream, depth + 1)))
    return _letter(stream)


def _letter(stream: Stream) -> Symbol:
    if stream.chance(0.25):
        greek = stream.choice(tuple(_GREEK))
        return Symbol(greek, _GREEK[greek], italic=True)
    letter = stream.choice(_LETTERS)
    return Symbol(letter, letter, italic=True)


def _number(stream: Stream, largest: int = 99) -> Symbol:
    number = str(stream.integer(2, largest))
    return Symbol(number, number)
