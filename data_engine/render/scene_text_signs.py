"""What stands on signs: a few words, a price, a time, a number; set flat, before any camera looks at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_engine.languages import Script
from data_engine.random_stream import Stream
from data_engine.render.graphics import skia
from data_engine.render.paragraphs import Typesetter, ink_heights
from data_engine.render.scene_text_planes import Box
from data_engine.words import heading

_WHITE = 0xFFFFFFFF
_LINE_HEIGHT = 1.3  # font sizes: accents and descenders of two lines never meet
_LINE_GAP = 0.15  # font sizes
_PADDING = 0.45  # font sizes: holds outline and shadow, and is what a plate shows around its text


@dataclass(frozen=True)
class Line:
    """One line of a sign."""

    text: str
    paragraph: skia.textlayout.Paragraph
    """In white: it is drawn as a mask."""
    x: float
    y: float
    """Of its upper left corner in the plane of the sign."""
    pixels: float
    """Font size."""
    ink: tuple[float, float]
    """How far the letters reach above and below the baseline, in pixels of the plane."""

    @property
    def box(self) -> Box:
        """The room of the line in the plane; its ink may lie a little beyond the sides, never beyond the padding."""
        width, height = self.paragraph.MaxIntrinsicWidth, self.paragraph.Height
        return self.x, self.y, self.x + width, self.y + height

    @property
    def ink_box(self) -> Box:
        """About what the letters cover: much less than the room, which could hold two accents and any descender."""
        left, top, right, _ = self.box
        above, below = self.ink
        baseline = top + self.paragraph.AlphabeticBaseline
        return left, baseline - above, right, baseline + below


@dataclass(frozen=True)
class Sign:
    """A flat sign around the origin of its plane."""

    lines: tuple[Line, ...]
    width: float
    height: float
    pixels: float
    """Font size of its largest line."""

    @property
    def box(self) -> Box:
        """All of it, the padding included."""
        return -self.width / 2, -self.height / 2, self.width / 2, self.height / 2


def make_sign(
    stream: Stream,
    typesetter: Typesetter,
    script: Script,
    family: str,
    pixels: float,
    lines: tuple[int, int],
    words: tuple[int, int],
) -> Sign:
    """A random sign in one script and family; `pixels` is the size of its largest line, spans are [least, most]."""
    bold = stream.chance(0.5)
    spelled = stream.choice(_SPELLINGS)
    texts = [
        line_of_text(stream, script, stream.integer(*words), spelled) for _ in range(stream.integer(*lines))
    ]
    sizes = [pixels] + [pixels * stream.choice((1.0, 0.85, 0.7)) for _ in texts[1:]]
    if stream.chance(0.3):
        sizes.reverse()
    set_lines = [
        typesetter.paragraph(
            text,
            family,
            float(round(size)),
            bold=bold,
            line_height=_LINE_HEIGHT,
            color=_WHITE,
            right_to_left=script.right_to_left,
        )
        for text, size in zip(texts, sizes, strict=True)
    ]
    widest = max(paragraph.MaxIntrinsicWidth for paragraph in set_lines)
    gap, padding = _LINE_GAP * pixels, _PADDING * pixels
    height = sum(paragraph.Height for paragraph in set_lines) + gap * (len(set_lines) - 1)
    alignment = stream.choice(
        (0.5, 0.5, 1.0 if script.right_to_left else 0.0)
    )  # share of the free room on the left
    placed, y = [], -height / 2
    for text, paragraph, size in zip(texts, set_lines, sizes, strict=True):
        x = -widest / 2 + alignment * (widest - paragraph.MaxIntrinsicWidth)
        above, below = ink_heights(text, family, bold)
        em = float(round(size))
        placed.append(Line(text, paragraph, x, y, em, (above * em, below * em)))
        y += paragraph.Height + gap
    return Sign(tuple(placed), widest + 2 * padding, height + 2 * padding, pixels)


def line_of_text(stream: Stream, script: Script, words: int, spelled: Callable[[str], str]) -> str:
    """What one line says; `spelled` puts its words into capitals or small letters."""
    language = script.language
    if not language.separator:
        words += 1  # they are one or two characters long
    written = spelled(heading(language, stream, words))
    form = stream.weighted({"words": 0.7, "number": 0.18, "both": 0.12})
    if form == "words":
        return written
    # From right to left, a mark beside digits would change sides.
    number = (_plain if script.right_to_left else stream.choice(_NUMBERS))(stream)
    if form == "number":
        return number
    return f"{written}{language.separator}{number}"


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.upper, str.upper, str.lower)


def _price(stream: Stream) -> str:
    return f"{stream.choice('$€£')}{stream.integer(1, 99)}.{stream.integer(0, 99):02}"


def _time(stream: Stream) -> str:
    return f"{stream.integer(0, 23)}:{stream.integer(0, 59):02}"


def _opening(stream: Stream) -> str:
    return f"{_time(stream)}-{_time(stream)}"


def _percent(stream: Stream) -> str:
    return f"-{stream.integer(5, 90)}%"


def _telephone(stream: Stream) -> str:
    return f"{stream.integer(100, 999)} {stream.integer(0, 9999):04}"


def _plain(stream: Stream) -> str:
    return str(stream.integer(2, 9999))


def _room(stream: Stream) -> str:
    return f"{stream.choice('ABCDEFGHK')}{stream.integer(1, 99)}"


_NUMBERS: tuple[Callable[[Stream], str], ...] = (
    _price,
    _time,
    _opening,
    _percent,
    _telephone,
    _plain,
    _room,
)
