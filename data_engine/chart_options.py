"""What a user may set for charts: every way in which charts differ has a share or weights.

A share is a number from 0 to 1. Weights are names, [bar,line], each then as likely as the others; or a dictionary,
{pie: 0, bar: 3}, that changes some of the usual weights and leaves the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_engine.errors import in_range, one_of, span, weights_of_options
from data_engine.options import width_and_height


def _usual(**of_names: float) -> Mapping[str, float]:
    return MappingProxyType(of_names)


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
MARKERS = ("circle", "square", "triangle", "diamond", "ring")
USUAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "forms": _usual(**dict.fromkeys(CHART_FORMS, 1.0)),
        "languages": _usual(en=1.0, zh=1.0),
        "names": _usual(listed=2.0, entities=2.0, dates=1.0),
        "legends": _usual(top=3.0, bottom=3.0, right=2.0, left=1.0),
        "title_sides": _usual(left=1.0, center=1.0, right=0.2),
        "families": _usual(sans=7.0, serif=3.0, mono=0.5),
        "line_styles": _usual(solid=6.0, dashed=1.0, dotted=1.0),
        "markers": _usual(**dict.fromkeys(MARKERS, 1.0) | {"circle": 4.0}),
        "palettes": _usual(vivid=1.0, classic=1.0, earth=1.0, office=1.0, dusk=1.0, pastel=0.7, single=0.5),
    }
)
"""The usual weights of all that is chosen by name."""
SHARES = (
    "matplotlib_share", "labels", "inside_labels", "percent", "thousands", "negative", "titles", "subtitles", "sources",
    "axis_titles", "legendless", "dark", "tinted", "effects", "smooth", "ticks", "frame",
)  # fmt: skip


@dataclass
class ChartOptions:
    """A chart whose every number can be read; the label is a plain HTML table, as in the paper."""

    size: Any = 512
    """Side of the square image in pixels, or [WIDTH,HEIGHT]."""
    sides: list[float] = field(default_factory=lambda: [0.75, 1.0])
    """[MIN,MAX] share of size that the width and the height of a chart take, each for itself; [1,1]: exactly size."""
    engine: str = "mixed"
    """echarts (pyecharts through ECharts, without a browser), matplotlib, or mixed."""
    label: str = "table"
    """table; or dictionary: OneChart's keys and prompt, values as the picture writes them. The scorers read tables."""
    matplotlib_share: float = 0.25
    """Share of matplotlib in engine=mixed, 0 to 1; a matplotlib chart costs several times an ECharts one."""
    forms: Any = None
    """Weights of bar, horizontal bar, stacked bar, line, area, pie, donut, rose, composite; null: all alike."""
    categories: list[int] = field(default_factory=lambda: [2, 6])
    """[MIN,MAX] categories: rows of the table."""
    series: list[int] = field(default_factory=lambda: [1, 3])
    """[MIN,MAX] series: columns of the table; pies have one, composites two or more."""
    languages: Any = None
    """Weights of en and zh (needs the Chinese font: python -m data_engine assets=fetch); null: both alike."""
    names: Any = None
    """Weights of what categories are called: listed (countries, fruit, ...), entities (random words), dates; null:
    {listed: 2, entities: 2, dates: 1}."""
    names_file: str | None = None
    """UTF-8 file with a name or short text per line (cities, products, titles of an encyclopedia): these are the
    entities then, in the languages whose fonts can write them; null: built from a few hundred words."""
    labels: float = 0.5
    """Share of charts with their values written in; elsewhere values lie where the axis lets them be read."""
    inside_labels: float = 0.25
    """Share of bar charts with written values that have them inside of the bars, where there is room."""
    percent: float = 0.15
    """Share of axes in percent."""
    thousands: float = 0.5
    """Share of axes reaching 1,000 that are written with commas between thousands."""
    negative: float = 0.15
    """Share of bar and line charts with values below zero."""
    titles: float = 0.7
    """Share of charts with a title; pies always have one, it names their only column."""
    subtitles: float = 0.2
    """Share of charts with a title that have a second line below it."""
    sources: float = 0.15
    """Share of charts with a line at the bottom that names a source."""
    axis_titles: float = 0.3
    """Share of value axes, and of category axes, with a title."""
    legendless: float = 0.4
    """Share of charts of one series without a legend: their title is the name of the series."""
    legends: Any = None
    """Weights of where legends stand; null: {top: 3, bottom: 3, right: 2, left: 1}."""
    title_sides: Any = None
    """Weights of where titles and sources stand; null: {left: 1, center: 1, right: 0.2}."""
    families: Any = None
    """Weights of the fonts of English charts; null: {sans: 7, serif: 3, mono: 0.5}."""
    palettes: Any = None
    """Weights of the colours; null: {vivid: 1, classic: 1, earth: 1, office: 1, dusk: 1, pastel: 0.7,
    single: 0.5}, where single is shades of one colour, for up to four names."""
    dark: float = 0.12
    """Share of dark charts."""
    tinted: float = 0.12
    """Share of charts whose plotting area has a colour of its own."""
    line_styles: Any = None
    """Weights of how lines are drawn; null: {solid: 6, dashed: 1, dotted: 1}."""
    markers: Any = None
    """Weights of the points of lines; null: {circle: 4, square: 1, triangle: 1, diamond: 1, ring: 1}."""
    effects: float = 0.35
    """Share of ECharts charts with gradients, shadows, rounded corners or hatching; lines have none."""
    smooth: float = 0.3
    """Share of ECharts line charts with written values whose lines are smooth."""
    ticks: float = 0.4
    """Share of charts with small ticks at their axes."""
    frame: float = 0.25
    """Share of charts with a frame around the plotting area, of those without values written above points and bars."""
    font_pixels: list[float] | None = None
    """[MIN,MAX] font size in pixels; null: 0.024 to 0.03 of size, but at least 9 to 10."""

    def __post_init__(self) -> None:
        width, height = width_and_height(self.size)
        span("options.sides", self.sides, 0.25, 1)
        one_of("options.engine", self.engine, ("mixed", "echarts", "matplotlib"))
        one_of("options.label", self.label, ("table", "dictionary"))
        span("options.categories", self.categories, 1, 12)
        span("options.series", self.series, 1, 8)
        for key in SHARES:
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        self.weights()
        if self.font_pixels is not None:
            span("options.font_pixels", self.font_pixels, 6, min(width, height) / 4)

    def weights(self) -> dict[str, dict[str, float]]:
        """The weight of every choice of the fields in USUAL. ConfigError where what the user gave makes none."""
        return weights_of_options(self, USUAL)
