"""What stands around an ECharts chart, as pyecharts' options: titles, legend and axes."""

from __future__ import annotations

from typing import Any

from pyecharts import options as opts

from data_engine.render.chart_content import ChartContent
from data_engine.render.chart_layout import ChartLayout, title_pixels
from data_engine.render.chart_numbers import Axis
from data_engine.render.chart_style import ChartStyle


def init_options(style: ChartStyle) -> opts.InitOpts:
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


def global_options(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> dict[str, Any]:
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


def source_line(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> dict[str, Any]:
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


def _text_style(style: ChartStyle) -> opts.TextStyleOpts:
    return opts.TextStyleOpts(font_size=style.font_pixels, font_family=style.family, color=style.ink)


def _side(side: str, style: ChartStyle) -> dict[str, str]:
    """Where a line of text as wide as the picture stands."""
    if side == "center":
        return {"pos_left": "center"}
    return {f"pos_{side}": f"{style.font_pixels:g}px"}


def category_axis(content: ChartContent, style: ChartStyle, layout: ChartLayout) -> opts.AxisOpts:
    return opts.AxisOpts(
        type_="category",
        is_inverse=content.form == "horizontal bar",
        axislabel_opts=opts.LabelOpts(
            interval=0,
            rotate=layout.label_angle,
            font_size=style.font_pixels,
            font_family=style.family,
            color=style.ink,
            margin=round(0.6 * style.font_pixels, 1),
        ),
        # Where values lie below zero, the names of the categories stay at the edge.
        axisline_opts=axis_line(style, is_on_zero=False),
        axistick_opts=axis_ticks(style),
        splitline_opts=opts.SplitLineOpts(is_show=False),
        **axis_title(content.category_title, layout.category_gap, style),
    )


def value_axis(axis: Axis, style: ChartStyle, grid: bool, title: dict[str, Any]) -> opts.AxisOpts:
    label = opts.LabelOpts(
        formatter="{value}" + axis.unit,
        font_size=style.font_pixels,
        font_family=style.family,
        color=style.ink,
        margin=round(0.5 * style.font_pixels, 1),
    )
    if not axis.commas:
        label.opts["commas"] = False  # canvas_recorder.js: by itself ECharts writes them always
    return opts.AxisOpts(
        type_="value",
        min_=float(axis.minimum),
        max_=float(axis.maximum),
        interval=float(axis.step),
        axislabel_opts=label,
        axisline_opts=axis_line(style),
        axistick_opts=axis_ticks(style),
        splitline_opts=opts.SplitLineOpts(
            is_show=grid, linestyle_opts=opts.LineStyleOpts(color=style.faint, width=1)
        ),
        **title,
    )


def axis_title(title: str, gap: float, style: ChartStyle) -> dict[str, Any]:
    if not title:
        return {}
    return {
        "name": title,
        "name_location": "middle",
        "name_gap": round(gap, 1),
        "is_name_move_overlap": False,
        "name_textstyle_opts": _text_style(style),
    }


def axis_line(style: ChartStyle, is_on_zero: bool = True) -> opts.AxisLineOpts:
    line = opts.LineStyleOpts(color=style.ink, width=1)
    return opts.AxisLineOpts(is_on_zero=is_on_zero, linestyle_opts=line)


def axis_ticks(style: ChartStyle) -> opts.AxisTickOpts:
    return opts.AxisTickOpts(is_show=style.ticks, length=round(0.3 * style.font_pixels, 1))
