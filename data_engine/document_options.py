"""What a user may set for documents: kinds `document`, `text_page` and `pdf`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data_engine.errors import ConfigError, in_range, one_of, span, weights
from data_engine.languages import SCRIPTS
from data_engine.options import width_and_height

FIGURE_KINDS = ("chart", "chemistry", "geometry")
DOCUMENT_FAMILIES = ("sans", "serif", "mono", "stix", "chinese")
ALIGNMENT_NAMES = ("left", "right", "center", "justified")
LEAST_PAGES_SPACING = 1.2
PAPER_POINTS = {
    "a4": (595.0, 842.0),
    "a5": (420.0, 595.0),
    "letter": (612.0, 792.0),
    "legal": (612.0, 1008.0),
}


@dataclass
class DocumentOptions:
    """A page with columns, headings, lists, tables, formulas and figures, each with its exact box."""

    size: Any = field(default_factory=lambda: [792, 1024])
    """[WIDTH,HEIGHT] in pixels, or one number for a square."""
    grounding: float = 0.5
    """Share answered with boxes (prompt: Convert the document to markdown); the others: Free OCR, no boxes."""
    languages: Any = None
    """Weights of en, zh (needs the Chinese font), de, fr, es, ru, el, he, ar; null: all alike."""
    words_file: str | None = None
    """UTF-8 file with a word per line, of any language: pages of these words instead of the languages."""
    fonts: list[str] = field(default_factory=list)
    """Font files (TTF, OTF) to draw from in languages whose letters they have, instead of ours; what a font cannot
    write is looked for in the others, then in ours."""
    columns: list[int] = field(default_factory=lambda: [1, 3])
    """[MIN,MAX] columns."""
    blocks: list[int] = field(default_factory=lambda: [4, 40])
    """[MIN,MAX] blocks; a full page ends earlier."""
    lists: float = 0.1
    """Share of lists among the blocks, 0 to 1; what the shares leave are headings and paragraphs."""
    tables: float = 0.07
    """Share of tables among the blocks, 0 to 1."""
    formulas: float = 0.08
    """Share of displayed formulas among the blocks, 0 to 1."""
    figures: float = 0.04
    """Share of figures among the blocks, 0 to 1; other kinds draw them."""
    figure_kinds: list[str] = field(default_factory=lambda: list(FIGURE_KINDS))
    """Kinds of figures to draw from: chart (where it has 256 pixels or more), chemistry, geometry."""
    color: float = 0.25
    """Share of pages with colours, 0 to 1; the others are gray, their figures too."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels; null: 0.0115 to 0.017 of the longer side, but at least 8 to 9."""
    jpeg_quality: int | None = 90
    """1 to 100; null writes PNG, which loses nothing and takes twice the time."""

    def __post_init__(self) -> None:
        width, height = width_and_height(self.size)
        self.language_weights()
        span("options.columns", self.columns, 1, 6)
        span("options.blocks", self.blocks, 1, 1000)
        for key in ("grounding", "lists", "tables", "formulas", "figures", "color"):
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        in_range("options.lists + tables + formulas + figures", self.special_share, 0, 1)
        check_jpeg_quality(self.jpeg_quality)
        for kind in self.figure_kinds:
            one_of("options.figure_kinds", kind, FIGURE_KINDS)
        if self.figures > 0 and not self.figure_kinds:
            raise ConfigError(f"options.figure_kinds needs at least one of {', '.join(FIGURE_KINDS)}.")
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 5, min(width, height) / 8)

    def language_weights(self) -> dict[str, float]:
        return _language_weights(self.languages, dict.fromkeys(SCRIPTS, 1.0))

    @property
    def special_share(self) -> float:
        return self.lists + self.tables + self.formulas + self.figures


@dataclass
class TextPageOptions:
    """Text set on a page with everything given that optical compression depends on; the label is that text."""

    text: str | None = None
    """UTF-8 file: .txt, or .jsonl with the text of one document per line under "text"; null: random words."""
    units: str = "words"
    """What length counts: words (split at blanks), or characters (for scripts without blanks)."""
    length: list[int] = field(default_factory=lambda: [200, 400])
    """[MIN,MAX] units on a page; exactly so many are drawn."""
    languages: Any = None
    """Weights of the languages of random words: en, zh (units=characters), de, fr, es, ru, el, he, ar; null: {en: 1},
    the others 0."""
    words_file: str | None = None
    """UTF-8 file with a word per line, of any language: random words are drawn from it instead of the languages."""
    paper: Any = "a4"
    """a4, a5, letter, legal, or [WIDTH,HEIGHT] in points (1/72 inch)."""
    dpi: float = 96.0
    """Pixels per inch; an A4 page has 794 x 1123 pixels at 96."""
    size: Any = None
    """Side in pixels, or [WIDTH,HEIGHT], instead of paper and dpi; 72 dpi then, so a point is a pixel."""
    family: str = "serif"
    """Font: sans, serif, mono, stix, chinese."""
    fonts: list[str] = field(default_factory=list)
    """Font files (TTF, OTF) to draw from instead of family; what one cannot write is looked for in the others, then
    in family and sans, and a text that none can write is skipped and counted."""
    font_points: list[float] = field(default_factory=lambda: [10.0, 10.0])
    """[MIN,MAX] font size in points."""
    line_spacing: float = 1.3
    """Distance of the lines in font sizes."""
    margin_points: list[float] = field(default_factory=lambda: [54.0, 54.0])
    """[HORIZONTAL,VERTICAL] margins in points."""
    alignment: str = "left"
    """left, right, center, justified."""
    overflow: str = "shrink"
    """What does not fit: shrink (a smaller font, down to 4 pixels), skip (counted, no sample), or pages (the text
    runs on over several images of one sample)."""
    pages_limit: int = 8
    """Most images of a sample with overflow=pages; a text that needs more is skipped and counted."""
    jpeg_quality: int | None = None
    """1 to 100; null writes PNG, which loses nothing."""

    def __post_init__(self) -> None:
        one_of("options.units", self.units, ("words", "characters"))
        span("options.length", self.length, 1, 1_000_000)
        self.language_weights()
        if self.text is not None and self.words_file is not None:
            raise ConfigError(
                "options.text and options.words_file cannot be given both: which of them shall be drawn?"
            )
        in_range("options.dpi", self.dpi, 10, 1200)
        one_of("options.family", self.family, DOCUMENT_FAMILIES)
        span("options.font_points", self.font_points, 1, 200)
        in_range("options.line_spacing", self.line_spacing, 0.8, 5)
        one_of("options.alignment", self.alignment, ALIGNMENT_NAMES)
        one_of("options.overflow", self.overflow, ("shrink", "skip", "pages"))
        in_range("options.pages_limit", self.pages_limit, 1, 256)
        if self.overflow == "pages" and self.line_spacing < LEAST_PAGES_SPACING:
            raise ConfigError(
                f"options.overflow=pages needs options.line_spacing of {LEAST_PAGES_SPACING} or more: with less, "
                "letters reach into the next line, which may stand on the next page."
            )
        check_jpeg_quality(self.jpeg_quality)
        width, height = self.pixels
        if len(self.margin_points) != 2 or min(self.margin_points) < 0:
            raise ConfigError("options.margin_points needs [HORIZONTAL,VERTICAL], both 0 or more.")
        across, down = (2 * margin * self.scale for margin in self.margin_points)
        if across >= 0.9 * width or down >= 0.9 * height:
            raise ConfigError(
                f"options.margin_points={self.margin_points} leaves no room on {width} x {height} pixels."
            )

    def language_weights(self) -> dict[str, float]:
        return _language_weights(self.languages, dict.fromkeys(SCRIPTS, 0.0) | {"en": 1.0})

    @property
    def scale(self) -> float:
        """Pixels per point."""
        return 1.0 if self.size is not None else self.dpi / 72

    @property
    def pixels(self) -> tuple[int, int]:
        """(width, height) of the page."""
        if self.size is not None:
            return width_and_height(self.size)
        points = PAPER_POINTS.get(self.paper) if isinstance(self.paper, str) else self.paper
        if not isinstance(points, (list, tuple)) or len(points) != 2:
            raise ConfigError(
                f"options.paper={self.paper} is not possible: give {', '.join(PAPER_POINTS)} or [WIDTH,HEIGHT]."
            )
        width, height = (round(side * self.dpi / 72) for side in points)
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ConfigError(
                f"options.paper and options.dpi give {width} x {height} pixels: 16 to 8192 are possible."
            )
        return width, height


@dataclass
class PdfOptions:
    """Pages of the user's PDFs that have a text layer; scans are skipped and counted."""

    source: str | None = None
    """Directory of PDFs (searched below, too), or a text file with the path of one PDF per line. Required."""
    grounding: float = 0.5
    """Share answered with boxes (prompt: Convert the document to markdown); the others: Free OCR, no boxes."""
    size: int = 1024
    """Longer side of the picture in pixels."""
    jpeg_quality: int | None = 90
    """1 to 100; null writes PNG, which loses nothing."""
    least_characters: int = 20
    """Pages with fewer characters in their text layer are skipped as scans."""
    largest_megabytes: float = 200.0
    """Larger files are skipped."""

    def __post_init__(self) -> None:
        limits = {
            "grounding": (0, 1),
            "size": (64, 8192),
            "least_characters": (1, 100_000),
            "largest_megabytes": (0.001, 100_000),
        }
        for key, (low, high) in limits.items():
            in_range(f"options.{key}", getattr(self, key), low, high)
        check_jpeg_quality(self.jpeg_quality)


def check_jpeg_quality(quality: int | None) -> None:
    if quality is not None:
        in_range("options.jpeg_quality", quality, 1, 100)


def _language_weights(given: Any, usual: dict[str, float]) -> dict[str, float]:
    return weights("options.languages", given, usual)
