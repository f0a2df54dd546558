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
from data_engine.render.chart_content import ChartContent, Series
from data_engine.render.chart_layout import ChartLayout, legend_names, slice_text, title_pixels
from data_engine.render.chart_numbers import Axis
from data_engine.render.chart_style import ChartStyle, contrast_ink

_DPI = 100
_POINTS = 72 / _DPI  # per pixel
_LINES = {"solid": "-", "dashed": "--", "dotted": ":"}
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "ring": "o"}


@functools.cache
def _use_defaults() -> None:
    """matplotlib's own defaults, whatever the machine's matplotlibrc says; once per process."""
    matplotlib.rcParams.update(matplotlib.rcParamsDefault)
    matplotlib.rcParams["text.parse_math"] = False  # a name may hold dollar signs


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
    axes.set_facecolor(style.panel)
    if content.is_round:
        _draw_slices(axes, content, style, layout, plot_width, plot_height)
    else:
        _draw_axes(axes, content, style, layout)
    _add_titles(figure, content, style, layout)
    _add_legend(figure, content, style, layout)
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
        color = style.palette[number]
        values = np.array([float(value) for value in series.values])
        target = right if series.on_right_axis and right is not None else axes
        if series.drawn_as == "bar":
            thick = style.bar_share / (1 if stacked else len(bars))
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
            markersize=(2.2 * style.line_width + 2) * _POINTS,
            zorder=3,
            **_line(style, number),
        )
        if series.drawn_as == "area":
            target.fill_between(places, values, color=color, alpha=0.3)
        if content.labels_shown:
            _write_point_values(target, content, style, series, places, values)


def _line(style: ChartStyle, number: int) -> dict[str, Any]:
    """How the line of a series is drawn, in the plot and in the legend."""
    marker = style.markers[number]
    return {
        "linestyle": _LINES[style.line_styles[number]],
        "linewidth": style.line_width * _POINTS,
        "marker": _MARKERS[marker],
        "markerfacecolor": style.panel if marker == "ring" else style.palette[number],
    }


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
    ticks = [float(value) for value in axis.tick_values()]
    font = _plain(style)
    set_ticks = axes.set_xticks if horizontal else axes.set_yticks
    set_ticks(ticks, axis.tick_texts(), fontproperties=font, color=style.ink)
    (axes.set_xlim if horizontal else axes.set_ylim)(float(axis.minimum), float(axis.maximum))
    length = 0.25 * style.font_pixels if style.ticks else 0.0
    axes.tick_params(colors=style.ink, length=length, pad=0.5 * style.font_pixels - length)
    for side, spine in axes.spines.items():
        spine.set_color(style.ink)
        spine.set_visible(style.frame or side in ("left", "bottom"))
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
        # Beyond the end of the bar, or back into it.
        away = (value >= 0) != style.labels_inside
        ink = contrast_ink(color) if style.labels_inside else style.ink
        shift = gap if away else -gap
        if content.form == "horizontal bar":
            point, offset, align = (
                (value, place),
                (shift, 0.0),
                ("left" if away else "right", "center_baseline"),
            )
        elif content.form == "stacked bar":
            point, offset, align = (place, base[number] + value / 2), (0.0, 0.0), ("center", "center")
        else:
            point, offset, align = (place, value), (0.0, shift), ("center", "bottom" if away else "top")
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
    colors = style.palette
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


def _add_titles(figure: Figure, content: ChartContent, style: ChartStyle, layout: ChartLayout) -> None:
    """Title, subtitle, source, and the titles of the axes."""
    em, width, height = style.font_pixels, style.width, style.height
    subtitle_top = layout.title_top + title_pixels(style) + layout.subtitle_gap
    lines = [
        (content.title, _font(font_file(style.family, style.title_bold), title_pixels(style)), style.title_side,
         1 - layout.title_top / height, "top"),
        (content.subtitle, _plain(style), style.title_side, 1 - subtitle_top / height, "top"),
        (content.source, _plain(style), style.source_side, layout.source_bottom / height, "bottom"),
    ]  # fmt: skip
    places = {"left": em / width, "center": 0.5, "right": 1 - em / width}
    for text, properties, side, y, align in lines:
        if text:
            figure.text(places[side], y, text, ha=side, va=align, color=style.ink, fontproperties=properties)
    gaps = [(content.category_title, layout.category_gap), (content.value_title, layout.value_gap)]
    if content.form == "horizontal bar":
        gaps.reverse()
    (below, below_gap), (beside, beside_gap) = gaps
    if below:
        x = (layout.left + (width - layout.left - layout.right) / 2) / width
        y = (layout.bottom - below_gap) / height
        figure.text(x, y, below, ha="center", va="top", color=style.ink, fontproperties=_plain(style))
    if beside:
        x = (layout.left - beside_gap) / width
        y = (layout.bottom + (height - layout.top - layout.bottom) / 2) / height
        figure.text(
            x, y, beside, ha="right", va="center", rotation=90, color=style.ink, fontproperties=_plain(style)
        )


def _add_legend(figure: Figure, content: ChartContent, style: ChartStyle, layout: ChartLayout) -> None:
    if style.legend == "none":
        return
    em, names = style.font_pixels, legend_names(content)
    handles: list[Artist] = []
    for place in range(len(names)):
        color = style.palette[place]
        if content.is_round or content.series[place].drawn_as == "bar":
            handles.append(Patch(color=color))
        else:
            handles.append(Line2D([], [], color=color, markersize=3, **_line(style, place)))
    places: dict[str, tuple[Any, tuple[float, float], int]] = {
        "top": ("upper center", (0.5, 1 - layout.legend_top / style.height), len(names)),
        "bottom": ("lower center", (0.5, layout.legend_bottom / style.height), len(names)),
        "right": ("center right", (1 - 0.4 * em / style.width, 0.5), 1),
        "left": ("center left", (0.4 * em / style.width, 0.5), 1),
    }
    location, anchor, columns = places[style.legend]
    figure.legend(
        handles,
        names,
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
