"""What a user may set for kind `scene_text`: text on photographs and textures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_engine.document_options import check_jpeg_quality
from data_engine.errors import in_range, span, weights_of_options
from data_engine.languages import SCRIPTS
from data_engine.options import width_and_height

TEXTURES = ("plain", "gradient", "clouds", "stripes", "bricks", "wood", "shapes")

USUAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "textures": MappingProxyType(dict.fromkeys(TEXTURES, 1.0)),
        "languages": MappingProxyType(dict.fromkeys(SCRIPTS, 0.0) | {"en": 1.0, "zh": 1.0}),
        "families": MappingProxyType({"sans": 0.5, "serif": 0.2, "stix": 0.2, "mono": 0.1, "chinese": 1.0}),
    }
)
"""The usual weights of all that is chosen by name."""


@dataclass
class SceneTextOptions:
    """Signs on photographs or textures, each in its own perspective; every line has an exact quadrilateral."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    grounding: float = 0.5
    """Share answered with boxes (prompt: OCR this image); the others: Free OCR, the lines alone."""
    photographs: str | None = None
    """Directory of photographs (PNG, JPEG, WebP; searched below, too) to write on; null: textures drawn by us.
    They should show no text of their own: the label could not tell it."""
    textures: Any = None
    """Weights of plain, gradient, clouds, stripes, bricks, wood, shapes, where there are no photographs; null: all
    alike."""
    languages: Any = None
    """Weights of en, zh (needs the Chinese font), de, fr, es, ru, el, he, ar; null: {en: 1, zh: 1}, the others 0."""
    words_file: str | None = None
    """UTF-8 file with a word per line, of any language: signs of these words instead of the languages."""
    families: Any = None
    """Weights of the fonts; null: {sans: 0.5, serif: 0.2, stix: 0.2, mono: 0.1, chinese: 1}, of which a language has
    those that can write it."""
    fonts: list[str] = field(default_factory=list)
    """Font files (TTF, OTF) to draw from in languages whose letters they have, instead of ours; what a font cannot
    write is looked for in the others, then in ours."""
    signs: list[int] = field(default_factory=lambda: [1, 4])
    """[MIN,MAX] signs; one that finds no free place or no contrast is left out of picture and label."""
    lines: list[int] = field(default_factory=lambda: [1, 2])
    """[MIN,MAX] lines of text on a sign."""
    words: list[int] = field(default_factory=lambda: [1, 3])
    """[MIN,MAX] words on a line; fewer where the picture is too narrow for so many legible ones."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels before perspective; null: 0.045 to 0.12 of the shorter side, at least 14 to 18."""
    perspective: float = 0.6
    """How far signs are turned away from the camera: 0 not at all, 1 up to 60 degrees."""
    rotation: float = 20.0
    """Largest rotation in the plane of the picture, in degrees."""
    plates: float = 0.35
    """Share of signs on a board of one colour, 0 to 1; on a ground too lively for any ink there is always one."""
    outlines: float = 0.2
    """Share of signs whose letters have an outline, 0 to 1."""
    shadows: float = 0.25
    """Share of signs whose letters cast a shadow, 0 to 1."""
    blur: float = 0.25
    """Share of signs that are slightly out of focus, 0 to 1."""
    contrast: float = 55.0
    """Least difference between ink and the ground around it in grey levels, measured on the finished picture."""
    jpeg_quality: int | None = 90
    """1 to 100; null writes PNG, which loses nothing and is several times larger."""

    def __post_init__(self) -> None:
        width, height = width_and_height(self.size)
        for key in ("grounding", "perspective", "plates", "outlines", "shadows", "blur"):
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        self.weights()
        span("options.signs", self.signs, 1, 50)
        span("options.lines", self.lines, 1, 6)
        span("options.words", self.words, 1, 12)
        in_range("options.rotation", self.rotation, 0, 45)
        in_range("options.contrast", self.contrast, 20, 100)
        check_jpeg_quality(self.jpeg_quality)
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 10, min(width, height))

    def weights(self) -> dict[str, dict[str, float]]:
        """The weight of every choice of the fields in USUAL. ConfigError where what the user gave makes none."""
        return weights_of_options(self, USUAL)
