"""Charts by ECharts: the option is built from real pyecharts objects, the picture is made without a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pyecharts import options as opts
from pyecharts.charts import Bar, Line, Pie
from pyecharts.options.series_options import BasicOpts

from data_engine.render.canvas_player import DrawnText, play
from data_engine.render.chart_content import ChartContent, Series
from data_engine.render.chart_echarts_frame import (
    axis_title,
    category_axis,
    global_options,
    init_options,
    source_line,
    value_axis,
)
from data_engine.render.chart_layout import ChartLayout
from data_engine.render.chart_numbers import text_of
from data_engine.render.chart_style import ChartStyle, contrast_ink
from data_engine.render.echarts_engine import EChartsEngine


def draw_echarts(
    engine: EChartsEngine, content: ChartContent, style: ChartStyle, layout: ChartLayout
) -> tuple[np.ndarray, list[DrawnText]]:
    """The picture [H, W, 4] and the texts in it."""
    option = option_of(content, style, layout)
    return play(engine.record(option, style.width, style.height), style.width, style.height)


def option_of(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> str:
    """The option of a chart as JSON, as pyecharts writes it."""
    chart = _round_chart(content, style, layout) if content.is_round else _axes_chart(content, style, layout)
    chart.set_colors(list(style.palette))
    chart.options["textStyle"] = {"fontFamily": style.family, "color": style.ink}
    chart.options["grid"] = opts.GridOpts(
        pos_left=layout.left,
        pos_right=layout.right,
        pos_top=layout.top,
        pos_bottom=layout.bottom,
        outer_bounds_mode="none",
        z=0,  # behind the grid lines
        is_show=style.frame or style.panel != style.paper,
        background_color=style.panel,
        border_color=style.faint if not style.frame else style.ink,
        border_width=1 if style.frame else 0,
    ).opts
    if content.source:
        chart.options["title"] = [*chart.options["title"].opts, source_line(content, style, layout)]
    # Nobody points at a picture: without tooltips and highlighting ECharts paints the same in less time.
    chart.options.pop("tooltip", None)
    for series in chart.options["series"]:
        series |= {"silent": True, "emphasis": {"disabled": True}}
    # As pyecharts' own dump, less the indentation and the escapes: the recorder looks for the characters.
    return json.dumps(chart.get_options(), default=_plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """What json cannot write by itself: pyecharts' option objects."""
    if isinstance(value, BasicOpts):
        return value.opts
    raise TypeError(f"{type(value).__name__} in a chart's option")


def _axes_chart(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> Any:
    groups = [
        (kind, [series for series in content.series if (series.drawn_as == "bar") == (kind is Bar)])
        for kind in (Bar, Line)
    ]
    charts = []
    for kind, members in groups:
        if not members:
            continue
        chart = kind(init_options(style)).add_xaxis(list(content.categories))
        for series in members:
            _add_series(chart, content, style, series)
        charts.append(chart)
    whole = charts[0]
    if content.right_axis is not None:
        whole.extend_axis(yaxis=value_axis(content.right_axis, style, False, {}))
    for other in charts[1:]:
        whole.overlap(other)
    horizontal = content.form == "horizontal bar"
    names = category_axis(content, style, layout)
    values = value_axis(
        content.axis, style, style.grid, axis_title(content.value_title, layout.value_gap, style)
    )
    if horizontal:
        whole.reversal_axis()
    whole.set_global_opts(
        xaxis_opts=values if horizontal else names,
        yaxis_opts=names if horizontal else values,
        **global_options(content, style, layout),
    )
    return whole


def _add_series(chart: Any, content: ChartContent, style: ChartStyle, series: Series) -> None:
    number = content.series.index(series)
    color = style.palette[number]
    position = _label_place(content, style, series)
    label = opts.LabelOpts(
        is_show=content.labels_shown,
        position=position,
        # pyecharts hands bars over as values and points as [category, value].
        formatter=("{c}" if series.drawn_as == "bar" else "{@[1]}") + content.axis_of(series).unit,
        font_size=style.font_pixels,
        font_family=style.family,
        color=contrast_ink(color) if position.startswith("inside") else style.ink,
        distance=round(0.35 * style.font_pixels, 1),
        # A value that may lie on a bar of another series gets the ground of the picture.
        background_color=style.panel if series.drawn_as == "line" and content.form == "composite" else None,
        padding=1,
    )
    values = [_number(series, place) for place in range(len(series.values))]
    on_right = 1 if series.on_right_axis else None
    if series.drawn_as == "bar":
        chart.add_yaxis(
            series.name,
            values,
            stack="all" if content.form == "stacked bar" else None,
            yaxis_index=on_right,
            category_gap=f"{100 * (1 - style.bar_share):g}%",
            gap="4%",
            label_opts=label,
            itemstyle_opts=_bar_item(content, style, color),
        )
        _write_commas(chart, content, series)
        return
    area = series.drawn_as == "area"
    fill: Any = _gradient(color, content.form, 0.75, 0.05) if "gradient" in style.effects else color
    chart.add_yaxis(
        series.name,
        values,
        yaxis_index=on_right,
        is_smooth=style.smooth,
        symbol=_SYMBOLS[style.markers[number]],
        symbol_size=round(2.6 * style.line_width + 1, 1),
        label_opts=label,
        linestyle_opts=opts.LineStyleOpts(
            width=style.line_width, color=color, type_=style.line_styles[number]
        ),
        itemstyle_opts={"color": color},
        areastyle_opts=opts.AreaStyleOpts(opacity=0.35 if area else 0, color=fill if area else None),
        z=3,
    )
    # By itself ECharts leaves points out, values with them.
    chart.options["series"][-1]["showAllSymbol"] = True
    _write_commas(chart, content, series)


def _label_place(content: ChartContent, style: ChartStyle, series: Series) -> str:
    """Where ECharts writes the values of a series."""
    if content.form == "stacked bar":
        return "inside"
    if series.drawn_as != "bar":
        return "top"
    if style.labels_inside:
        return "insideRight" if content.form == "horizontal bar" else "insideTop"
    return "outside"  # beyond the end of the bar, wherever that is


def _write_commas(chart: Any, content: ChartContent, series: Series) -> None:
    """ECharts' patterns know no commas: where there are to be any, every value brings its own text."""
    if not content.axis_of(series).commas or not content.labels_shown:
        return
    last = chart.options["series"][-1]
    last["data"] = [
        {"value": value, "label": {"formatter": content.value_text(series, place)}}
        for place, value in enumerate(last["data"])
    ]


_SYMBOLS = {
    "circle": "circle",
    "square": "rect",
    "triangle": "triangle",
    "diamond": "diamond",
    "ring": "emptyCircle",
}


def _number(series: Series, place: int) -> int | float:
    """A value as JSON writes it; the text of the number is the one in the table."""
    text = text_of(series.values[place])
    return float(text) if "." in text else int(text)


def _bar_item(content: ChartContent, style: ChartStyle, color: str) -> dict[str, Any]:
    item: dict[str, Any] = {"color": color}
    if "gradient" in style.effects:
        item["color"] = _gradient(color, content.form, 1.0, 0.45)
    if "rounded" in style.effects:
        radius = round(0.45 * style.font_pixels)
        item["borderRadius"] = (
            [0, radius, radius, 0] if content.form == "horizontal bar" else [radius, radius, 0, 0]
        )
    if "shadow" in style.effects:
        item |= _shadow(style)
    return item


def _shadow(style: ChartStyle) -> dict[str, Any]:
    offset = round(0.2 * style.font_pixels, 1)
    return {
        "shadowBlur": round(0.7 * style.font_pixels, 1),
        "shadowColor": "rgba(0, 0, 0, 0.45)",
        "shadowOffsetX": offset,
        "shadowOffsetY": offset,
    }


def _gradient(color: str, form: str, start: float, end: float) -> dict[str, Any]:
    """A linear gradient of one colour, from strong to weak along the bars."""
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    strong, weak = (f"rgba({red}, {green}, {blue}, {alpha})" for alpha in (start, end))
    across = form == "horizontal bar"
    first, last = (weak, strong) if across else (strong, weak)  # strong is where the bar ends
    return {
        "type": "linear",
        "x": 0,
        "y": 0,
        "x2": 1 if across else 0,
        "y2": 0 if across else 1,
        "colorStops": [{"offset": 0, "color": first}, {"offset": 1, "color": last}],
    }


def _round_chart(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> Any:
    series = content.series[0]
    em = style.font_pixels
    outside = style.slice_labels == "outside"
    inner = {"donut": 0.45, "rose": 0.18}.get(content.form, 0.0) * layout.pie_radius
    middle_x = layout.left + (style.width - layout.left - layout.right) / 2
    middle_y = layout.top + (style.height - layout.top - layout.bottom) / 2
    slices = [
        opts.PieItem(
            name,
            _number(series, place),
            label_opts=_slice_label(content, style, place),
        )
        for place, name in enumerate(content.categories)
    ]
    item: dict[str, Any] = {}
    if "rounded" in style.effects:
        item |= {"borderRadius": round(0.4 * em), "borderColor": style.paper, "borderWidth": 2}
    if "shadow" in style.effects:
        item |= _shadow(style)
    unit = content.axis.unit
    chart = Pie(init_options(style)).add(
        series.name,
        slices,
        radius=[f"{inner:g}", f"{layout.pie_radius:g}"],
        center=[f"{middle_x:g}", f"{middle_y:g}"],
        rosetype="area" if content.form == "rose" else None,
        label_opts=opts.LabelOpts(
            position="outside" if outside else "inside",
            formatter="{b}: {c}" + unit if outside else "{c}" + unit,
            font_size=em,
            font_family=style.family,
            color=style.ink,
            overflow="none",
        ),
        label_line_opts=opts.PieLabelLineOpts(length=round(0.7 * em), length_2=round(0.7 * em)),
        itemstyle_opts=item or None,
    )
    pie = chart.options["series"][0]
    pie["radius"], pie["center"] = [inner, layout.pie_radius], [middle_x, middle_y]
    chart.set_global_opts(**global_options(content, style, layout))
    chart.options["legend"][0]["data"] = list(content.categories)  # pyecharts finds no names in PieItems
    return chart


def _slice_label(content: ChartContent, style: ChartStyle, place: int) -> dict[str, Any] | None:
    """What is special about the text of one slice."""
    label: dict[str, Any] = {}
    outside = style.slice_labels == "outside"
    if not outside:
        label["color"] = contrast_ink(style.palette[place])
    if content.axis.commas:
        text = content.value_text(content.series[0], place)
        label["formatter"] = f"{{b}}: {text}" if outside else text
    return label or None
