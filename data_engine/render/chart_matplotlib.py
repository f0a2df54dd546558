"""Charts by matplotlib: a Figure of its own per chart on Agg, nothing of pyplot's hidden state.

Fonts are named by file, ticks and labels by text, so that neither a matplotlibrc nor a locale has a say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.text import Text

from data_engine.fonts import font_file
from data_engine.render.canvas_player import DrawnText
from data_engine.render.chart_content import Axis, ChartContent, Series
from data_engine.render.chart_style import ChartLayout, ChartStyle, contrast_ink, slice_text

_DPI = 100
_POINTS = 72 / _DPI  # per pixel
_BAR_SHARE = 0.72  # of a category's room


@functools.cache
def _use_defaults() -> None:
    """matplotlib's own defaults, whatever the machine's matplotlibrc says; once per process."""
    matplotlib.rcParams.update(matplotlib.rcParamsDefault)


def draw_matplotlib(
    content: ChartContent, style: ChartStyle, layout: ChartLayout
) -> tuple[np.ndarray, list[DrawnText]]:
    """The picture [H, W, 4] and the texts in it."""
    _use_defaults()
    width, height = style.width, style.height
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=style.paper)
    canvas = FigureCanvasAgg(figure)
    plot_width, plot_height = width - layout.left - layout.right, height - layout.top - layout.bottom
    axes = figure.add_axes(
        (layout.left / width, layout.bottom / height, plot_width / width, plot_height / height)
    )
    axes.set_facecolor(style.paper)
    if content.is_round:
        _draw_slices(axes, content, style, layout, plot_width, plot_height)
    else:
        _draw_axes(axes, content, style, layout)
    _add_title_and_legend(figure, content, style)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    texts = [drawn for text in _texts(figure) if (drawn := _drawn(text, canvas, height)) is not None]
    return pixels, texts


def _texts(figure: Figure) -> Iterator[Text]:
    """All texts that may have been drawn. (`figure.findobj` makes ticks that nobody needs on its way.)"""
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()
    for axes in figure.axes:
        yield from axes.texts
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                for tick in axis.get_major_ticks():
                    yield tick.label1
                    yield tick.label2


@functools.lru_cache(maxsize=256)
def _font(path: Path, pixels: float) -> FontProperties:
    return FontProperties(fname=str(path), size=pixels * _POINTS)


def _plain(style: ChartStyle) -> FontProperties:
    return _font(font_file(style.family, False), style.font_pixels)


def _drawn(text: Text, canvas: FigureCanvasAgg, height: int) -> DrawnText | None:
    content = text.get_text()
    if not content.strip() or not text.get_visible():
        return None
    box = text.get_window_extent(canvas.get_renderer())
    upright = text.get_rotation() % 90 == 0
    return DrawnText(content, box.x0, height - box.y1, box.x1, height - box.y0, upright)


def _draw_axes(axes: Axes, content: ChartContent, style: ChartStyle, layout: ChartLayout) -> None:
    horizontal = content.form == "horizontal bar"
    _prepare_axis(axes, content.axis, style, horizontal, style.grid)
    right = None
    if content.right_axis is not None:
        right = axes.twinx()
        _prepare_axis(right, content.right_axis, style, False, False)
    places = np.arange(len(content.categories))
    if horizontal:
        axes.set_yticks([])
        axes.set_ylim(len(places) - 0.5, -0.5)
        _write_categories(axes, content, style, horizontal, 0.25 * style.font_pixels, {})
    else:
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if layout.label_angle else {}
        )
        axes.set_xticks([])
        axes.set_xlim(-0.5, len(places) - 0.5)
        _write_categories(axes, content, style, horizontal, 0.4 * style.font_pixels, turned)
    bars = [series for series in content.series if series.drawn_as == "bar"]
    stacked = content.form == "stacked bar"
    base = np.zeros(len(places))
    for number, series in enumerate(content.series):
        color = style.palette[number % len(style.palette)]
        values = np.array([float(value) for value in series.values])
        target = right if series.on_right_axis and right is not None else axes
        if series.drawn_as == "bar":
            thick = _BAR_SHARE / (1 if stacked else len(bars))
            shift = 0.0 if stacked else (bars.index(series) - (len(bars) - 1) / 2) * thick
            if horizontal:
                target.barh(places + shift, values, 0.94 * thick, color=color)
            else:
                target.bar(places + shift, values, 0.94 * thick, bottom=base, color=color)
            if content.labels_shown:
                _write_bar_values(target, content, style, series, places + shift, values, base, color)
            if stacked:
                base = base + values
            continue
        target.plot(
            places,
            values,
            color=color,
            linewidth=style.line_width * _POINTS,
            marker="o",
            markersize=(2.2 * style.line_width + 2) * _POINTS,
            zorder=3,
        )
        if series.drawn_as == "area":
            target.fill_between(places, values, color=color, alpha=0.3)
        if content.labels_shown:
            _write_point_values(target, content, style, series, places, values)


def _write_categories(
    axes: Axes, content: ChartContent, style: ChartStyle, horizontal: bool, pad: float, turned: dict[str, Any]
) -> None:
    """The names of the categories, `pad` points from their axis: where the labels of ticks would stand.

    A tick is five artists of matplotlib, and all that is seen of these is the label.
    """
    transform_of = axes.get_yaxis_text1_transform if horizontal else axes.get_xaxis_text1_transform
    transform, vertical, across = transform_of(pad)
    align = {"va": vertical, "ha": across, **turned}
    for place, name in enumerate(content.categories):
        x, y = (0.0, place) if horizontal else (place, 0.0)
        axes.text(x, y, name, transform=transform, fontproperties=_plain(style), color=style.ink, **align)


def _prepare_axis(axes: Axes, axis: Axis, style: ChartStyle, horizontal: bool, grid: bool) -> None:
    ticks = [float(axis.step * tick) for tick in range(axis.ticks + 1)]
    font = _plain(style)
    set_ticks = axes.set_xticks if horizontal else axes.set_yticks
    set_ticks(ticks, axis.tick_texts(), fontproperties=font, color=style.ink)
    (axes.set_xlim if horizontal else axes.set_ylim)(0, float(axis.maximum))
    axes.tick_params(colors=style.ink, length=0.25 * style.font_pixels, pad=0.25 * style.font_pixels)
    for side, spine in axes.spines.items():
        spine.set_color(style.ink)
        spine.set_visible(
            side in ("left", "bottom", "right") if not horizontal else side in ("left", "bottom")
        )
        spine.set_linewidth(_POINTS)
    if grid:
        axes.grid(axis="x" if horizontal else "y", color=style.faint, linewidth=_POINTS)
        axes.set_axisbelow(True)


def _write_bar_values(
    axes: Axes,
    content: ChartContent,
    style: ChartStyle,
    series: Series,
    places: np.ndarray,
    values: np.ndarray,
    base: np.ndarray,
    color: str,
) -> None:
    gap = 0.25 * style.font_pixels * _POINTS
    for number, (place, value) in enumerate(zip(places, values, strict=True)):
        point, offset, align = (place, value), (0.0, gap), ("center", "bottom")
        ink = style.ink
        if content.form == "horizontal bar":
            point, offset, align = (value, place), (gap, 0.0), ("left", "center_baseline")
        elif content.form == "stacked bar":
            point, offset, align = (place, base[number] + value / 2), (0.0, 0.0), ("center", "center")
            ink = contrast_ink(color)
        _write(axes, content.value_text(series, number), point, offset, align, style, ink)


def _write_point_values(
    axes: Axes,
    content: ChartContent,
    style: ChartStyle,
    series: Series,
    places: np.ndarray,
    values: np.ndarray,
) -> None:
    offset = (0.0, (0.35 * style.font_pixels + style.line_width) * _POINTS)
    for number, point in enumerate(zip(places, values, strict=True)):
        _write(
            axes, content.value_text(series, number), point, offset, ("center", "bottom"), style, style.ink
        )


def _write(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    offset: tuple[float, float],
    align: tuple[str, str],
    style: ChartStyle,
    ink: str,
    ground: str | None = None,
) -> None:
    axes.annotate(
        text,
        point,
        xytext=offset,
        textcoords="offset points",
        ha=align[0],
        va=align[1],
        fontproperties=_plain(style),
        color=ink,
        annotation_clip=False,
        zorder=5,
        bbox=None if ground is None else {"facecolor": ground, "edgecolor": "none", "pad": 0.7},
    )


def _draw_slices(
    axes: Axes, content: ChartContent, style: ChartStyle, layout: ChartLayout, width: float, height: float
) -> None:
    series = content.series[0]
    values = np.array([float(value) for value in series.values])
    count = len(values)
    colors = [style.palette[place % len(style.palette)] for place in range(count)]
    # One unit of the axes is one radius, and the middle of the axes is the middle of the pie.
    axes.set_xlim(-width / 2 / layout.pie_radius, width / 2 / layout.pie_radius)
    axes.set_ylim(-height / 2 / layout.pie_radius, height / 2 / layout.pie_radius)
    axes.axis("off")
    inner = {"donut": 0.45, "rose": 0.18}.get(content.form, 0.0)
    shares = values / values.sum()
    ends = np.pi / 2 - 2 * np.pi * np.concatenate([[0.0], np.cumsum(shares)])
    reach = np.ones(count)
    if content.form == "rose":
        ends = np.pi / 2 - 2 * np.pi * np.arange(count + 1) / count
        reach = inner + (1 - inner) * values / values.max()
    for place in range(count):
        turn = np.linspace(ends[place], ends[place + 1], 60)
        outer = np.stack([np.cos(turn), np.sin(turn)], 1)
        edge = np.concatenate([outer * reach[place], outer[::-1] * inner])
        # As artists: `fill` and `plot` would look for limits that are set already.
        axes.add_artist(Polygon(edge, facecolor=colors[place], edgecolor=style.paper, linewidth=_POINTS))
        middle = (ends[place] + ends[place + 1]) / 2
        direction = np.array([np.cos(middle), np.sin(middle)])
        if style.slice_labels == "outside":
            gap = 0.6 * style.font_pixels / layout.pie_radius
            start, end = direction * reach[place], direction * (1 + gap)
            leader = Line2D([start[0], end[0]], [start[1], end[1]], color=colors[place], linewidth=_POINTS)
            axes.add_artist(leader)
            align = ("left" if direction[0] >= 0 else "right", "center")
            step = 0.3 * style.font_pixels * _POINTS * (1 if direction[0] >= 0 else -1)
            _write(axes, slice_text(content, place), tuple(end), (step, 0.0), align, style, style.ink)
        else:
            point = tuple(direction * (inner + (reach[place] - inner) * 0.6))
            text = content.value_text(series, place)
            _write(axes, text, point, (0.0, 0.0), ("center", "center"), style, contrast_ink(colors[place]))


def _add_title_and_legend(figure: Figure, content: ChartContent, style: ChartStyle) -> None:
    em = style.font_pixels
    if content.title:
        centred = style.title_side == "center"
        figure.text(
            0.5 if centred else em / style.width,
            1 - 0.5 * em / style.height,
            content.title,
            ha="center" if centred else "left",
            va="top",
            color=style.ink,
            fontproperties=_font(font_file(style.family, True), 1.3 * em),
        )
    if style.legend == "none":
        return
    names = content.categories if content.is_round else [series.name for series in content.series]
    handles: list[Artist] = []
    for place in range(len(names)):
        color = style.palette[place % len(style.palette)]
        if content.is_round or content.series[place].drawn_as == "bar":
            handles.append(Patch(color=color))
        else:
            handles.append(
                Line2D([], [], color=color, linewidth=style.line_width * _POINTS, marker="o", markersize=3)
            )
    top = (2.5 if content.title else 0.5) * em
    places: dict[str, tuple[Any, tuple[float, float], int]] = {
        "top": ("upper center", (0.5, 1 - top / style.height), len(names)),
        "bottom": ("lower center", (0.5, 0.3 * em / style.height), len(names)),
        "right": ("center right", (1 - 0.4 * em / style.width, 0.5), 1),
    }
    location, anchor, columns = places[style.legend]
    figure.legend(
        handles,
        list(names),
        loc=location,
        bbox_to_anchor=anchor,
        ncols=columns,
        frameon=False,
        prop=_plain(style),
        labelcolor=style.ink,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.5,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.6,
    )
