"""What a user may set for each kind: `options.KEY=...`. Checked before anything is rendered.

Light on purpose (no drawing library is imported), so that `--help` and a refusal are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.errors import ConfigError, in_range, one_of, span
from data_engine.fonts import FONT_FAMILIES, LATIN_FAMILIES


@dataclass
class CardOptions:
    """A short random text on a small image: nothing in it can be guessed, so what is right was read."""

    alphabet: str = "0123456789"
    """The characters that texts are drawn from, each equally likely."""
    length: list[int] = field(default_factory=lambda: [1, 5])
    """[MIN,MAX] characters."""
    size: int = 128
    """Side of the square image in pixels."""
    lines: int = 1
    """At most so many lines; a wrapped text is still one text, its label has no line break."""
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
        in_range("options.lines", self.lines, 1, 100)
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
