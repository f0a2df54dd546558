"""What a user may set for each kind: `options.KEY=...`. Checked before anything is rendered.

Light on purpose (no drawing library is imported), so that `--help` and a refusal are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data_engine.errors import ConfigError, in_range, one_of, span
from data_engine.fonts import FONT_FAMILIES, LATIN_FAMILIES
from data_engine.words import LANGUAGES


@dataclass
class CardOptions:
    """A short random text on a small image: nothing in it can be guessed, so what is right was read."""

    alphabet: str = "0123456789"
    """The characters that texts are drawn from, each equally likely."""
    length: list[int] = field(default_factory=lambda: [1, 5])
    """[MIN,MAX] characters."""
    size: int = 128
    """Side of the square image in pixels."""
    lines: list[int] = field(default_factory=lambda: [1, 1])
    """[MIN,MAX] lines of nearly equal length; a wrapped text is still one text, its label has no line break."""
    fonts: list[str] = field(default_factory=lambda: list(LATIN_FAMILIES))
    """Families to draw from: sans, serif, mono (DejaVu), chinese (Noto Sans SC)."""
    bold: float = 0.3
    """Share of bold texts, 0 to 1."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels, made smaller where the text would not fit; null: 0.17 to 0.28 of size."""
    jitter: float = 1.0
    """How far the text may leave the middle: 0 not at all, 1 to the margin."""
    inverted: float = 0.15
    """Share of light texts on dark ground, 0 to 1."""
    noise: float = 0.0
    """Largest noise on the background in grey levels, 0 to 64."""

    def __post_init__(self) -> None:
        span("options.length", self.length, 1, 1000)
        in_range("options.size", self.size, 16, 4096)
        span("options.lines", self.lines, 1, 100)
        in_range("options.bold", self.bold, 0, 1)
        in_range("options.jitter", self.jitter, 0, 1)
        in_range("options.inverted", self.inverted, 0, 1)
        in_range("options.noise", self.noise, 0, 64)
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 4, self.size)
        if not self.alphabet.strip():
            raise ConfigError("options.alphabet needs at least one character that can be seen.")
        if not self.fonts:
            raise ConfigError(f"options.fonts needs at least one of {', '.join(FONT_FAMILIES)}.")
        for family in self.fonts:
            one_of("options.fonts", family, FONT_FAMILIES)


@dataclass
class PageOptions:
    """A page of random words in one or two columns, with a title and sometimes a list."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    words: list[int] = field(default_factory=lambda: [20, 80])
    """[MIN,MAX] words; what does not fit is set smaller, then left out of page and label."""
    languages: list[str] = field(default_factory=lambda: list(LANGUAGES))
    """Languages to draw from: en, zh (needs the Chinese font: python -m data_engine assets=fetch)."""
    columns: list[int] = field(default_factory=lambda: [1, 2])
    """[MIN,MAX] columns."""
    titles: float = 0.8
    """Share of pages with a title, 0 to 1."""
    lists: float = 0.3
    """Share of pages with a list, 0 to 1."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels; null: 0.025 to 0.038 of size, but at least 9 to 11."""

    def __post_init__(self) -> None:
        width, height = self.width_and_height
        span("options.words", self.words, 1, 100_000)
        span("options.columns", self.columns, 1, 6)
        in_range("options.titles", self.titles, 0, 1)
        in_range("options.lists", self.lists, 0, 1)
        check_languages(self.languages)
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 4, min(width, height))

    @property
    def width_and_height(self) -> tuple[int, int]:
        """In pixels."""
        return width_and_height(self.size)


def width_and_height(size: Any) -> tuple[int, int]:
    """(width, height) in pixels from one number or [WIDTH,HEIGHT]; ConfigError for anything else."""
    sides = [size, size] if isinstance(size, int) else size
    valid = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides)
    if not valid or not all(64 <= side <= 4096 for side in sides):
        raise ConfigError(
            f"options.size={size} is not possible: give one number or [WIDTH,HEIGHT], 64 to 4096 pixels each."
        )
    return sides[0], sides[1]


def check_languages(languages: list[str]) -> None:
    """ConfigError unless there is at least one language, and each is known."""
    if not languages:
        raise ConfigError(f"options.languages needs at least one of {', '.join(LANGUAGES)}.")
    for language in languages:
        one_of("options.languages", language, LANGUAGES)
