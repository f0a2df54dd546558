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


@dataclass
class ChemistryOptions:
    """A molecule as chemists draw it; the label is its canonical SMILES."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    smiles: str | None = None
    """File of molecules, plain or .gz: .csv or .tsv with a column smiles; else a molecule per line, the SMILES first or
    after a number, as in PubChem's CID-SMILES; null: the NCI list inside RDKit."""
    max_atoms: int | None = None
    """Leave out molecules with more heavy atoms; null: draw all. Reads the whole file first."""
    split: str = "all"
    """all; or train and heldout: nine tenths and the last tenth of the molecules, no molecule in both."""
    color: float = 0.5
    """Share of drawings with coloured atoms, 0 to 1."""

    def __post_init__(self) -> None:
        width_and_height(self.size)
        one_of("options.split", self.split, ("all", "train", "heldout"))
        in_range("options.color", self.color, 0, 1)
        if self.max_atoms is not None:
            in_range("options.max_atoms", self.max_atoms, 1, 10_000)


SHAPES = ("square", "rectangle", "parallelogram", "rhombus", "trapezoid", "triangle", "circle")


@dataclass
class GeometryOptions:
    """A plane figure after Slow Perception; the label is the paper's dictionary, perception ruler 4."""

    size: int = 512
    """Side of the square image in pixels."""
    shapes: list[str] = field(default_factory=lambda: list(SHAPES))
    """Shapes to draw from: square, rectangle, parallelogram, rhombus, trapezoid, triangle, circle."""
    extra_lines: list[int] = field(default_factory=lambda: [0, 3])
    """[MIN,MAX] diagonals, medians, heights and the like."""
    circles: float = 0.25
    """Share of the figures with straight sides that get a circle in or around them, 0 to 1."""
    letters: float = 0.9
    """Share of figures with letters at their points, 0 to 1."""
    dashed: float = 0.2
    """Share of dashed lines, 0 to 1."""
    translation: float = 1.0
    """How far the figure may be shifted off the middle: 0 not at all, 1 to the margin. Never shifts the label."""

    def __post_init__(self) -> None:
        in_range("options.size", self.size, 64, 4096)
        span("options.extra_lines", self.extra_lines, 0, 6)
        for key in ("circles", "letters", "dashed", "translation"):
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        if not self.shapes:
            raise ConfigError(f"options.shapes needs at least one of {', '.join(SHAPES)}.")
        for shape in self.shapes:
            one_of("options.shapes", shape, SHAPES)


CHART_FORMS = (
    "bar",
    "horizontal bar",
    "stacked bar",
    "line",
    "area",
    "pie",
    "donut",
    "rose",
    "composite",
)


@dataclass
class ChartOptions:
    """A chart whose every number can be read; the label is a plain HTML table, as in the paper."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    engine: str = "mixed"
    """echarts (pyecharts through ECharts, without a browser), matplotlib, or mixed."""
    label: str = "table"
    """table; or dictionary: OneChart's keys and prompt, values as the picture writes them. The scorers read tables."""
    matplotlib_share: float = 0.25
    """Share of matplotlib in engine=mixed, 0 to 1; a matplotlib chart costs several times an ECharts one."""
    forms: list[str] = field(default_factory=lambda: list(CHART_FORMS))
    """Forms to draw from: bar, horizontal bar, stacked bar, line, area, pie, donut, rose, composite."""
    categories: list[int] = field(default_factory=lambda: [2, 6])
    """[MIN,MAX] categories: rows of the table."""
    series: list[int] = field(default_factory=lambda: [1, 3])
    """[MIN,MAX] series: columns of the table; pies have one, composites two or more."""
    languages: list[str] = field(default_factory=lambda: list(LANGUAGES))
    """Languages to draw from: en, zh (needs the Chinese font: python -m data_engine assets=fetch)."""
    labels: float = 0.5
    """Share of charts with their values written in; elsewhere values lie where the axis lets them be read."""
    titles: float = 0.7
    """Share of charts with a title, 0 to 1; pies always have one, it names their only column."""
    effects: float = 0.35
    """Share of ECharts charts with gradients, shadows, rounded corners or hatching, 0 to 1."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels; null: 0.024 to 0.03 of size, but at least 9 to 10."""

    def __post_init__(self) -> None:
        width, height = width_and_height(self.size)
        one_of("options.engine", self.engine, ("mixed", "echarts", "matplotlib"))
        one_of("options.label", self.label, ("table", "dictionary"))
        span("options.categories", self.categories, 1, 12)
        span("options.series", self.series, 1, 8)
        check_languages(self.languages)
        for key in ("matplotlib_share", "labels", "titles", "effects"):
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 6, min(width, height) / 4)
        if not self.forms:
            raise ConfigError(f"options.forms needs at least one of {', '.join(CHART_FORMS)}.")
        for form in self.forms:
            one_of("options.forms", form, CHART_FORMS)


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
