"""How a chart looks, and where its parts lie: shared by both engines, so that both obey the same room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from data_engine.fonts import CHINESE_FAMILY, font_file
from data_engine.options import ChartOptions, width_and_height
from data_engine.random_stream import Stream
from data_engine.render.chart_content import ChartContent, Series
from data_engine.render.graphics import font

PALETTES = (
    ("#5470c6", "#91cc75", "#fac858", "#ee6666", "#73c0de", "#3ba272", "#fc8452", "#9a60b4", "#ea7ccc"),
    ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf"),
    ("#c23531", "#2f4554", "#61a0a8", "#e0a458", "#419d78", "#8e6c8a", "#c0b283", "#d48fa0", "#4a6fa5"),
    ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f"),
    ("#003f5c", "#bc5090", "#ffa600", "#58508d", "#ff6361", "#2a9d8f", "#8ab17d", "#e9c46a", "#b5838d"),
)
_PAPERS = {"#ffffff": 5.0, "#fafafa": 1.0, "#f4f8ff": 1.0, "#fffaf0": 1.0, "#1d2230": 0.7, "#2b2b2b": 0.4}
_DARK = ("#1d2230", "#2b2b2b")
_EFFECTS = ("gradient", "shadow", "rounded", "hatching")


@dataclass(frozen=True)
class ChartStyle:
    """Colours, fonts and ornaments. Lengths in pixels."""

    width: int
    height: int
    family: str
    font_pixels: float
    palette: tuple[str, ...]
    paper: str
    ink: str
    faint: str
    """Of grid lines and axes."""
    legend: str
    """"top", "bottom", "right" or "none"."""
    title_side: str
    """"left" or "center"."""
    grid: bool
    smooth: bool
    line_width: float
    effects: frozenset[str]
    slice_labels: str
    """Pies: "outside" (name and value beside) or "inside" (value in the slice, names in the legend)."""


@dataclass(frozen=True)
class ChartLayout:
    """The plotting area: distances from the edges of the picture in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    label_angle: int
    """Of the category labels in degrees: 0 or 45."""
    pie_radius: float


def random_style(
    stream: Stream, content: ChartContent, options: ChartOptions, font_pixels: float
) -> ChartStyle:
    width, height = width_and_height(options.size)
    families = {"sans": 0.7, "serif": 0.3}
    paper = stream.weighted(_PAPERS)
    dark = paper in _DARK
    palette = tuple(stream.shuffled(stream.choice(PALETTES)))
    if dark:
        palette = tuple(color for color in palette if _luminance(color) > 0.3) or palette
    legend = stream.weighted({"top": 3.0, "bottom": 3.0, "right": 2.0})
    slice_labels = stream.choice(("outside", "inside"))
    if content.is_round and slice_labels == "outside":
        legend = "none"
    effects = stream.sample(_EFFECTS, stream.integer(1, 2)) if stream.chance(options.effects) else []
    if content.form == "stacked bar" or (content.is_round and slice_labels == "inside"):
        effects = [effect for effect in effects if effect != "hatching"]  # values stand on the colours there
    return ChartStyle(
        width=width,
        height=height,
        family=CHINESE_FAMILY if content.language.code == "zh" else stream.weighted(families),
        font_pixels=font_pixels,
        palette=palette,
        paper=paper,
        ink="#e8e8e8" if dark else stream.choice(("#222222", "#333333", "#000000")),
        faint="#555b66" if dark else "#d5d8de",
        legend=legend,
        title_side=stream.choice(("left", "center")),
        grid=not content.labels_shown or stream.chance(0.6),
        smooth=content.labels_shown and stream.chance(0.3),
        line_width=max(1.2, min(width, height) / 512 * stream.uniform(1.5, 3.0)),
        effects=frozenset(effects),
        slice_labels=slice_labels,
    )


def layout_of(content: ChartContent, style: ChartStyle) -> ChartLayout | None:
    """Room for everything that is written; None when something would not fit."""
    em = style.font_pixels

    def width_of(text: str) -> float:
        return font(font_file(style.family, False), em).measureText(text)

    def widest(texts: list[str]) -> float:
        return max(map(width_of, texts))

    left = right = 1.2 * em
    top = 0.9 * em + (2.2 * em if content.title else 0.0)
    bottom = 1.0 * em
    legend_names = list(content.categories) if content.is_round else [s.name for s in content.series]
    if style.legend == "right":
        right += widest(legend_names) + 3.6 * em
        if len(legend_names) * 1.9 * em > style.height - top - bottom:
            return None
    elif style.legend != "none":
        if sum(width_of(name) + 3.6 * em for name in legend_names) > style.width - 2 * em:
            return None
        top += 2.0 * em if style.legend == "top" else 0.0
        bottom += 2.0 * em if style.legend == "bottom" else 0.0
    if content.title and font(font_file(style.family, True), 1.3 * em).measureText(content.title) > (
        style.width - 2 * em
    ):
        return None
    if content.is_round:
        return _round_layout(content, style, left, top, right, bottom, width_of)
    horizontal = content.form == "horizontal bar"
    ticks = widest(content.axis.tick_texts())
    names = widest(list(content.categories))
    left += (names if horizontal else ticks) + 0.8 * em
    if content.right_axis is not None:
        right += widest(content.right_axis.tick_texts()) + 0.8 * em
    if horizontal:
        right += ticks / 2
    if content.labels_shown:
        values = [content.value_text(s, place) for s in content.series for place in range(len(s.values))]
        widest_value = widest(values)
        right += widest_value if horizontal else 0.0
        top += 0.0 if horizontal else 1.3 * em
    else:
        widest_value = 0.0
    bottom += 1.7 * em
    plot_width, plot_height = style.width - left - right, style.height - top - bottom
    slot = (plot_height if horizontal else plot_width) / len(content.categories)
    angle = 0
    if not horizontal and names > 0.92 * slot:
        angle = 45
        bottom += 0.75 * names
        plot_height = style.height - top - bottom
    bars = sum(s.drawn_as == "bar" for s in content.series)
    if content.form == "stacked bar":
        bars = 1
    bar = 0.72 * slot / max(1, bars)
    if min(plot_width, plot_height) < 5 * em or slot < 1.5 * em or bar < 3:
        return None
    if content.labels_shown and bars and bar < (1.15 * em if horizontal else widest_value * 1.05):
        return None
    if content.labels_shown and not _labels_are_apart(content, plot_height, slot, widest_value, em):
        return None
    if content.form == "stacked bar":
        least = min(value for s in content.series for value in s.values)
        if float(least / content.axis.maximum) * plot_height < 1.25 * em:
            return None
    return ChartLayout(left, top, right, bottom, angle, 0.0)


def _labels_are_apart(
    content: ChartContent, plot_height: float, slot: float, widest_value: float, em: float
) -> bool:
    """Whether the values written over the points of lines, one above the other, leave each other room."""
    lines = [series for series in content.series if series.drawn_as != "bar"]
    if not lines:
        return True
    if slot < widest_value + 0.5 * em:
        return False

    def height(series: Series, place: int) -> float:
        on_right = series.on_right_axis and content.right_axis is not None
        axis = content.right_axis if on_right and content.right_axis is not None else content.axis
        return float(series.values[place] / axis.maximum) * plot_height

    for place in range(len(content.categories)):
        heights = sorted(height(series, place) for series in content.series)
        if any(upper - lower < 1.4 * em for lower, upper in pairwise(heights)):
            return False
    return True


def _round_layout(
    content: ChartContent,
    style: ChartStyle,
    left: float,
    top: float,
    right: float,
    bottom: float,
    width_of: Callable[[str], float],
) -> ChartLayout | None:
    em = style.font_pixels
    series = content.series[0]
    places = range(len(content.categories))
    plot_width, plot_height = style.width - left - right, style.height - top - bottom
    if style.slice_labels == "outside":
        texts = [slice_text(content, place) for place in places]
        radius = min(plot_width / 2 - max(map(width_of, texts)) - 2.4 * em, plot_height / 2 - 1.6 * em)
    else:
        radius = min(plot_width, plot_height) / 2 - 0.3 * em
        widest_value = max(width_of(content.value_text(series, place)) for place in places)
        band = radius * (0.45 if content.form == "donut" else 0.7)
        least = float(min(series.values) / sum(series.values))
        if band < widest_value or radius * least * 4 < 1.2 * em:
            return None
    if radius < 2.6 * em:
        return None
    return ChartLayout(left, top, right, bottom, 0, radius)


def slice_text(content: ChartContent, place: int) -> str:
    """What stands beside a slice."""
    return f"{content.categories[place]}: {content.value_text(content.series[0], place)}"


def _luminance(color: str) -> float:
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_ink(color: str) -> str:
    """White or black, whichever is easier to read on a colour."""
    return "#000000" if _luminance(color) > 0.45 else "#ffffff"
