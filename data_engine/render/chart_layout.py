"""Where the parts of a chart lie: shared by both engines, so that both obey the same room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from data_engine.fonts import font_file
from data_engine.render.chart_content import ChartContent, Series
from data_engine.render.chart_style import ChartStyle
from data_engine.render.graphics import font

_TITLE_EMS = 1.3
"""Font size of a title, in those of everything else."""
_LEAST_STEP = 0.36
"""Least distance of two values that are read off an axis, in font sizes: 4 to 5 pixels."""


@dataclass(frozen=True)
class ChartLayout:
    """The plotting area, and what stands around it. Distances from the edges of the picture in pixels, unless it says
    otherwise."""

    left: float
    top: float
    right: float
    bottom: float
    title_top: float
    subtitle_gap: float
    """From the title's font size down to the subtitle."""
    legend_top: float
    legend_bottom: float
    source_bottom: float
    label_angle: int = 0
    """Of the category labels in degrees: 0 or 45."""
    category_gap: float = 0.0
    """From the axis of the categories to its title."""
    value_gap: float = 0.0
    """From the value axis to its title."""
    pie_radius: float = 0.0


class _Measure:
    """Widths of texts in a style, in pixels."""

    def __init__(self, style: ChartStyle) -> None:
        self._plain = font(font_file(style.family, False), style.font_pixels)
        self._title = font(font_file(style.family, style.title_bold), _TITLE_EMS * style.font_pixels)

    def of(self, text: str) -> float:
        return float(self._plain.measureText(text))

    def of_title(self, text: str) -> float:
        return float(self._title.measureText(text))

    def widest(self, texts: Iterable[str]) -> float:
        return max(map(self.of, texts))


def title_pixels(style: ChartStyle) -> float:
    """Font size of titles."""
    return round(_TITLE_EMS * style.font_pixels, 2)


def legend_names(content: ChartContent) -> list[str]:
    return list(content.categories) if content.is_round else [series.name for series in content.series]


def layout_of(content: ChartContent, style: ChartStyle) -> ChartLayout | None:
    """Room for everything that is written; None when something would not fit."""
    em, measure = style.font_pixels, _Measure(style)
    room = style.width - 2 * em
    if (
        measure.of_title(content.title) > room
        or max(map(measure.of, (content.subtitle, content.source))) > room
    ):
        return None
    left = right = 1.2 * em
    legend_top = (2.6 if content.title else 0.6) * em + (1.5 * em if content.subtitle else 0.0)
    source_bottom = 0.4 * em
    legend_bottom = source_bottom + (1.5 * em if content.source else 0.0)
    top, bottom = legend_top + 0.4 * em, legend_bottom + 0.6 * em
    names = legend_names(content)
    if style.legend in ("left", "right"):
        if len(names) * 1.9 * em > style.height - top - bottom:
            return None
        left += measure.widest(names) + 3.6 * em if style.legend == "left" else 0.0
        right += measure.widest(names) + 3.6 * em if style.legend == "right" else 0.0
    elif style.legend != "none":
        if sum(measure.of(name) + 3.6 * em for name in names) > room:
            return None
        top += 2.0 * em if style.legend == "top" else 0.0
        bottom += 2.0 * em if style.legend == "bottom" else 0.0
    empty = ChartLayout(
        left, top, right, bottom, 0.5 * em, 0.4 * em, legend_top, legend_bottom, source_bottom
    )
    if content.is_round:
        return _round_layout(content, style, empty, measure)
    return _axes_layout(content, style, empty, measure)


def _axes_layout(
    content: ChartContent, style: ChartStyle, empty: ChartLayout, measure: _Measure
) -> ChartLayout | None:
    em = style.font_pixels
    left, top, right, bottom = empty.left, empty.top, empty.right, empty.bottom
    horizontal = content.form == "horizontal bar"
    ticks, names = measure.widest(content.axis.tick_texts()), measure.widest(content.categories)
    side_title, low_title = (
        (content.category_title, content.value_title)
        if horizontal
        else (content.value_title, content.category_title)
    )
    side_gap = (names if horizontal else ticks) + 1.0 * em
    left += side_gap - 0.2 * em + (1.5 * em if side_title else 0.0)
    if content.right_axis is not None:
        right += measure.widest(content.right_axis.tick_texts()) + 0.8 * em
    if horizontal:
        right += ticks / 2
    widest_value = 0.0
    if content.labels_shown:
        widest_value = measure.widest(
            content.value_text(series, place)
            for series in content.series
            for place in range(len(series.values))
        )
        right += widest_value if horizontal else 0.0
        top += 0.0 if horizontal else 1.3 * em
    low_gap = 1.8 * em
    plot_width = style.width - left - right
    slot = plot_width / len(content.categories)
    angle = 0
    if not horizontal and names > 0.92 * slot:
        angle = 45
        low_gap += 0.75 * names
    bottom += low_gap - 0.1 * em + (1.4 * em if low_title else 0.0)
    plot_height = style.height - top - bottom
    if horizontal:
        slot = plot_height / len(content.categories)
    if measure.of(side_title) > plot_height or measure.of(low_title) > plot_width:
        return None
    # Two values must be told apart along the axis.
    if content.heights * _LEAST_STEP * em > (plot_width if horizontal else plot_height):
        return None
    if horizontal and ticks + 0.4 * em > plot_width / content.axis.ticks:
        return None  # they would run into each other
    plot = _Plot(plot_width, plot_height, slot, widest_value)
    if min(plot_width, plot_height) < 5 * em or slot < 1.5 * em:
        return None
    if not _bars_have_room(content, style, plot) or not _labels_are_apart(content, plot, em):
        return None
    gaps = (side_gap, low_gap) if horizontal else (low_gap, side_gap)
    return replace(
        empty, left=left, top=top, right=right, bottom=bottom, label_angle=angle, category_gap=gaps[0],
        value_gap=gaps[1],
    )  # fmt: skip


@dataclass(frozen=True)
class _Plot:
    """The plotting area of axes, in pixels."""

    width: float
    height: float
    slot: float
    """The room of one category."""
    widest_value: float


def _bars_have_room(content: ChartContent, style: ChartStyle, plot: _Plot) -> bool:
    """Whether bars can be seen, and the values at them or in them be read."""
    em = style.font_pixels
    bars = [series for series in content.series if series.drawn_as == "bar"]
    if not bars:
        return True
    horizontal, stacked = content.form == "horizontal bar", content.form == "stacked bar"
    thickness = style.bar_share * plot.slot / (1 if stacked else len(bars))
    if thickness < 3:
        return False
    if not content.labels_shown:
        return True
    if thickness < (1.15 * em if horizontal else plot.widest_value * 1.05):
        return False
    axis, length = content.axis, plot.width if horizontal else plot.height
    values = [value for series in bars for value in series.values]
    needed = plot.widest_value + 0.7 * em if horizontal else 1.4 * em
    if style.labels_inside:
        return float(min(values) / axis.maximum) * length >= (1.25 * em if stacked else needed)
    # What hangs below zero has its value at its lower end.
    return all(value >= 0 or axis.share(value) * length >= needed for value in values)


def _labels_are_apart(content: ChartContent, plot: _Plot, em: float) -> bool:
    """Whether the values written over the points of lines, one above the other, leave each other room."""
    lines = [series for series in content.series if series.drawn_as != "bar"]
    if not lines or not content.labels_shown:
        return True
    if plot.slot < plot.widest_value + 0.5 * em:
        return False

    def height(series: Series, place: int) -> float:
        return content.axis_of(series).share(series.values[place]) * plot.height

    for place in range(len(content.categories)):
        heights = sorted(height(series, place) for series in content.series)
        if any(upper - lower < 1.4 * em for lower, upper in pairwise(heights)):
            return False
    return True


def _round_layout(
    content: ChartContent, style: ChartStyle, empty: ChartLayout, measure: _Measure
) -> ChartLayout | None:
    em = style.font_pixels
    series = content.series[0]
    places = range(len(content.categories))
    plot_width = style.width - empty.left - empty.right
    plot_height = style.height - empty.top - empty.bottom
    if style.slice_labels == "outside":
        widest = measure.widest(slice_text(content, place) for place in places)
        radius = min(plot_width / 2 - widest - 2.4 * em, plot_height / 2 - 1.6 * em)
    else:
        radius = min(plot_width, plot_height) / 2 - 0.3 * em
        widest = measure.widest(content.value_text(series, place) for place in places)
        band = radius * (0.45 if content.form == "donut" else 0.7)
        least = float(min(series.values) / sum(series.values))
        if band < widest or radius * least * 4 < 1.2 * em:
            return None
    if radius < 2.6 * em:
        return None
    return replace(empty, pie_radius=radius)


def slice_text(content: ChartContent, place: int) -> str:
    """What stands beside a slice."""
    return f"{content.categories[place]}: {content.value_text(content.series[0], place)}"
