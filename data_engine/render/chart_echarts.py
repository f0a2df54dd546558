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
from data_engine.render.chart_layout import ChartLayout, title_pixels
from data_engine.render.chart_numbers import Axis, text_of
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
        is_show=style.frame or style.panel != style.paper,
        background_color=style.panel,
        border_color=style.faint if not style.frame else style.ink,
        border_width=1 if style.frame else 0,
    ).opts
    if content.source:
        chart.options["title"] = [*chart.options["title"].opts, _source(content, style, layout)]
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


def _init_options(style: ChartStyle) -> opts.InitOpts:
    hatched = "hatching" in style.effects
    return opts.InitOpts(
        width=f"{style.width}px",
        height=f"{style.height}px",
        chart_id="chart",
        bg_color=style.paper,
        animation_opts=opts.AnimationOpts(animation=False),
        aria_opts=opts.AriaOpts(is_enable=True, aria_decal_opts=opts.AriaDecalOpts(is_show=True))
        if hatched
        else opts.AriaOpts(),
    )


def _global_options(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> dict[str, Any]:
    em = style.font_pixels
    title = opts.TitleOpts(
        title=content.title or None,
        subtitle=content.subtitle or None,
        pos_top=f"{layout.title_top:g}px",
        padding=0,
        item_gap=layout.subtitle_gap,
        title_textstyle_opts=opts.TextStyleOpts(
            font_size=title_pixels(style),
            font_family=style.family,
            font_weight="bold" if style.title_bold else "normal",
            color=style.ink,
        ),
        subtitle_textstyle_opts=_text_style(style),
        **_side(style.title_side, style),
    )
    places: dict[str, dict[str, Any]] = {
        "top": {"pos_top": f"{layout.legend_top:g}px", "pos_left": "center"},
        "bottom": {"pos_bottom": f"{layout.legend_bottom:g}px", "pos_left": "center"},
        "right": {"pos_right": f"{0.6 * em:g}px", "pos_top": "middle", "orient": "vertical"},
        "left": {"pos_left": f"{0.6 * em:g}px", "pos_top": "middle", "orient": "vertical"},
        "none": {},
    }
    legend = opts.LegendOpts(
        is_show=style.legend != "none",
        item_width=round(1.7 * em),
        item_height=round(0.9 * em),
        item_gap=round(0.8 * em),
        padding=0,
        textstyle_opts=_text_style(style),
        **places[style.legend],
    )
    return {"title_opts": title, "legend_opts": legend}


def _text_style(style: ChartStyle) -> opts.TextStyleOpts:
    return opts.TextStyleOpts(font_size=style.font_pixels, font_family=style.family, color=style.ink)


def _side(side: str, style: ChartStyle) -> dict[str, str]:
    """Where a line of text as wide as the picture stands."""
    if side == "center":
        return {"pos_left": "center"}
    return {f"pos_{side}": f"{style.font_pixels:g}px"}


def _source(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> dict[str, Any]:
    """A second title, at the bottom."""
    title = opts.TitleOpts(
        title=content.source,
        pos_bottom=f"{layout.source_bottom:g}px",
        padding=0,
        title_textstyle_opts=opts.TextStyleOpts(
            font_size=style.font_pixels, font_family=style.family, font_weight="normal", color=style.ink
        ),
        **_side(style.source_side, style),
    )
    found: dict[str, Any] = title.opts[0]
    return found


def _axes_chart(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> Any:
    groups = [
        (kind, [series for series in content.series if (series.drawn_as == "bar") == (kind is Bar)])
        for kind in (Bar, Line)
    ]
    charts = []
    for kind, members in groups:
        if not members:
            continue
        chart = kind(_init_options(style)).add_xaxis(list(content.categories))
        for series in members:
            _add_series(chart, content, style, series)
        charts.append(chart)
    whole = charts[0]
    if content.right_axis is not None:
        whole.extend_axis(yaxis=_value_axis(content.right_axis, style, False, {}))
    for other in charts[1:]:
        whole.overlap(other)
    horizontal = content.form == "horizontal bar"
    category_axis = opts.AxisOpts(
        type_="category",
        is_inverse=horizontal,
        axislabel_opts=opts.LabelOpts(
            interval=0,
            rotate=layout.label_angle,
            font_size=style.font_pixels,
            font_family=style.family,
            color=style.ink,
            margin=round(0.6 * style.font_pixels, 1),
        ),
        # Where values lie below zero, the names of the categories stay at the edge.
        axisline_opts=_axis_line(style, is_on_zero=False),
        axistick_opts=_ticks(style),
        splitline_opts=opts.SplitLineOpts(is_show=False),
        **_axis_title(content.category_title, layout.category_gap, style),
    )
    value_axis = _value_axis(
        content.axis, style, style.grid, _axis_title(content.value_title, layout.value_gap, style)
    )
    if horizontal:
        whole.reversal_axis()
    whole.set_global_opts(
        xaxis_opts=value_axis if horizontal else category_axis,
        yaxis_opts=category_axis if horizontal else value_axis,
        **_global_options(content, style, layout),
    )
    return whole


def _axis_title(title: str, gap: float, style: ChartStyle) -> dict[str, Any]:
    if not title:
        return {}
    return {
        "name": title,
        "name_location": "middle",
        "name_gap": round(gap, 1),
        "is_name_move_overlap": False,
        "name_textstyle_opts": _text_style(style),
    }


def _value_axis(axis: Axis, style: ChartStyle, grid: bool, title: dict[str, Any]) -> opts.AxisOpts:
    return opts.AxisOpts(
        type_="value",
        min_=float(axis.minimum),
        max_=float(axis.maximum),
        interval=float(axis.step),
        axislabel_opts=opts.LabelOpts(
            formatter="{value}" + axis.unit,
            font_size=style.font_pixels,
            font_family=style.family,
            color=style.ink,
            margin=round(0.5 * style.font_pixels, 1),
        ),
        axisline_opts=_axis_line(style),
        axistick_opts=_ticks(style),
        splitline_opts=opts.SplitLineOpts(
            is_show=grid, linestyle_opts=opts.LineStyleOpts(color=style.faint, width=1)
        ),
        **title,
    )


def _axis_line(style: ChartStyle, is_on_zero: bool = True) -> opts.AxisLineOpts:
    line = opts.LineStyleOpts(color=style.ink, width=1)
    return opts.AxisLineOpts(is_on_zero=is_on_zero, linestyle_opts=line)


def _ticks(style: ChartStyle) -> opts.AxisTickOpts:
    return opts.AxisTickOpts(is_show=style.ticks, length=round(0.3 * style.font_pixels, 1))


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
    chart = Pie(_init_options(style)).add(
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
    chart.set_global_opts(**_global_options(content, style, layout))
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
