"""Paragraphs set by skia's text layout: line breaking of every script, justification, Arabic letters joined.

The fonts are those of `data_engine.fonts`, registered by name, and files of the user, registered by path; nothing of
the machine's fonts is looked at.
"""

from __future__ import annotations

import functools
from pathlib import Path

from data_engine.fonts import FONT_FAMILIES, font_file, latin_font_file
from data_engine.render.graphics import font, missing_characters, skia, typeface

_layout = skia.textlayout
ALIGNMENTS = {
    "left": _layout.TextAlign.kLeft,
    "right": _layout.TextAlign.kRight,
    "center": _layout.TextAlign.kCenter,
    "justified": _layout.TextAlign.kJustify,
}
# skia-python cannot set the direction of a paragraph: the text is put into Unicode's own embedding instead.
_RIGHT_TO_LEFT, _POP = "\u202b", "\u202c"
_MEASURED = 64.0  # pixels: one size for all, so that skia keeps the outlines
_ONE_LINE = 1e5  # pixels: more than any line has


@functools.cache
def document_font_file(family: str, bold: bool) -> Path:
    """The file of a family, "stix" (matplotlib's STIXGeneral) among them; what is no family of ours is a path."""
    if family not in known_families():
        return Path(family)
    if family == "stix":
        return latin_font_file("sans", False).with_name("STIXGeneralBol.ttf" if bold else "STIXGeneral.ttf")
    return font_file(family, bold)


class Typesetter:
    """Sets paragraphs with a fixed set of font families. Made once per process; it holds skia's caches."""

    def __init__(
        self, families: tuple[str, ...], files: tuple[str, ...] = (), last: tuple[str, ...] = ()
    ) -> None:
        """`files` are fonts of the user; what a font cannot write is looked for in them and in the `last` families."""
        provider = _layout.TypefaceFontProvider()
        for family in families:
            for bold in (False, True):
                provider.registerTypeface(
                    typeface(document_font_file(family, bold)), _registered(family, bold)
                )
        for file in files:
            provider.registerTypeface(typeface(Path(file)), file)
        self._known = frozenset(families)
        self._behind = {bold: [*files, *(_registered(name, bold) for name in last)] for bold in (False, True)}
        self._fonts = _layout.FontCollection()
        self._fonts.setDefaultFontManager(provider)
        self._provider = provider
        self._unicode = skia.Unicodes.ICU.Make()

    def paragraph(
        self,
        text: str,
        family: str,
        pixels: float,
        width: float | None = None,
        *,
        bold: bool = False,
        alignment: str = "left",
        line_height: float = 1.35,
        color: int = 0xFF000000,
        right_to_left: bool = False,
    ) -> skia.textlayout.Paragraph:
        """A text laid out in `width` pixels; `line_height` in font sizes, colour as ARGB.

        Without a width it is one line, flush left, and MaxIntrinsicWidth says how wide. With a width and
        `right_to_left`, "left" is taken for "right".
        """
        style = _layout.TextStyle()
        first = (
            _registered(family, bold) if family in self._known else family
        )  # a file is one face, never bold
        style.setFontFamilies([first, *self._behind[bold]])
        style.setFontSize(pixels)
        style.setHeight(line_height)
        style.setHeightOverride(True)
        style.setColor(color)
        whole = _layout.ParagraphStyle()
        whole.setTextStyle(style)
        if right_to_left:
            text = f"{_RIGHT_TO_LEFT}{text}{_POP}"
            alignment = "right" if alignment == "left" and width is not None else alignment
        whole.setTextAlign(ALIGNMENTS[alignment])
        builder = _layout.ParagraphBuilder.make(whole, self._fonts, self._unicode)
        builder.pushStyle(style)
        builder.addText(text)
        paragraph = builder.Build()
        paragraph.layout(_ONE_LINE if width is None else width)
        return paragraph


def _registered(family: str, bold: bool) -> str:
    return f"{family}-bold" if bold else family


def undrawable(text: str, *families: str) -> list[str]:
    """The characters of `text` that none of the families has a shape for; blanks and what joins letters aside."""
    missing = "".join(character for character in set(text) if not character.isspace())
    missing = missing.replace("\u200c", "").replace("\u200d", "")
    for family in families:
        missing = "".join(missing_characters(document_font_file(family, False), missing))
    return sorted(missing)


def ink_heights(text: str, family: str, bold: bool) -> tuple[float, float]:
    """How far the letters of a line reach above and below its baseline, in font sizes; no letter is joined for it."""
    bounds = skia.Rect()
    face = font(document_font_file(family, bold), _MEASURED)
    face.measureText(text, skia.TextEncoding.kUTF8, bounds)
    return -bounds.top() / _MEASURED, bounds.bottom() / _MEASURED


def known_families() -> tuple[str, ...]:
    return (*FONT_FAMILIES, "stix")
