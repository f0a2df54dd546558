"""How a chart looks: colours, fonts, ornaments and places, for both engines."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

from data_engine.chart_options import ChartOptions
from data_engine.fonts import CHINESE_FAMILY
from data_engine.random_stream import Stream
from data_engine.render.chart_content import ChartContent

PALETTES = {
    "vivid": ("#5470c6", "#91cc75", "#fac858", "#ee6666", "#73c0de", "#3ba272", "#fc8452", "#9a60b4", "#ea7ccc"),
    "classic": ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf"),
    "earth": ("#c23531", "#2f4554", "#61a0a8", "#e0a458", "#419d78", "#8e6c8a", "#c0b283", "#d48fa0", "#4a6fa5"),
    "office": ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f"),
    "dusk": ("#003f5c", "#bc5090", "#ffa600", "#58508d", "#ff6361", "#2a9d8f", "#8ab17d", "#e9c46a", "#b5838d"),
    "pastel": ("#8dd3c7", "#e7d37f", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5", "#bc80bd"),
}  # fmt: skip
_PAPERS = {"#ffffff": 5.0, "#fafafa": 1.0, "#f4f8ff": 1.0, "#fffaf0": 1.0}
_DARK_PAPERS = {"#1d2230": 0.7, "#2b2b2b": 0.4}
_PANELS = ("#e5e5ee", "#e6e6e6", "#e3ece3", "#e5ecf6")
_DARK_PANEL = "#39404f"
_SHADES = 4
_BARS = ("gradient", "shadow", "rounded", "hatching")
_SLICES = ("shadow", "rounded", "hatching")
_EFFECTS = {"line": (), "area": ("gradient",), "pie": _SLICES, "donut": _SLICES, "rose": _SLICES}
"""What ECharts can adorn a form with; bars with everything."""
_DIFFERENT = 60
"""Least distance in RGB of a colour that is added to a palette from all that are there."""


@dataclass(frozen=True)
class ChartStyle:
    """Colours, fonts and ornaments. Lengths in pixels."""

    width: int
    height: int
    family: str
    font_pixels: float
    title_bold: bool
    palette_name: str
    palette: tuple[str, ...]
    is_dark: bool
    paper: str
    panel: str
    """Colour of the plotting area; that of the paper where it has none of its own."""
    ink: str
    faint: str
    """Of grid lines and axes."""
    legend: str
    """"top", "bottom", "right", "left" or "none"."""
    title_side: str
    """"left", "center" or "right"."""
    source_side: str
    grid: bool
    ticks: bool
    frame: bool
    smooth: bool
    bar_share: float
    """How much of the room of a category its bars take."""
    line_width: float
    line_styles: tuple[str, ...]
    """Of the series, in turn: "solid", "dashed" or "dotted"."""
    markers: tuple[str, ...]
    """Of the series, in turn: "circle", "square", "triangle", "diamond" or "ring"."""
    labels_inside: bool
    """Whether the values of bars stand inside of them."""
    effects: frozenset[str]
    slice_labels: str
    """Pies: "outside" (name and value beside) or "inside" (value in the slice, names in the legend)."""


def random_style(
    stream: Stream, content: ChartContent, options: ChartOptions, font_pixels: float, width: int, height: int
) -> ChartStyle:
    """A style for a picture of `width` x `height` pixels."""
    weights = options.weights()
    is_dark = stream.chance(options.dark)
    paper = stream.weighted(_DARK_PAPERS if is_dark else _PAPERS)
    tinted = not content.is_round and stream.chance(options.tinted)
    panel = paper if not tinted else _DARK_PANEL if is_dark else stream.choice(_PANELS)
    names = len(content.categories if content.is_round else content.series)
    palette_name = stream.weighted(weights["palettes"])
    if palette_name == "single" and names > _SHADES:
        palette_name = "vivid"  # more shades of one colour cannot be told apart
    legend = stream.weighted(weights["legends"]) if content.has_legend else "none"
    slice_labels = stream.choice(("outside", "inside"))
    if content.is_round and slice_labels == "outside":
        legend = "none"
    stacked = content.form == "stacked bar"
    possible = _EFFECTS.get(content.form, _BARS)
    wanted = min(stream.integer(1, 2), len(possible)) if stream.chance(options.effects) else 0
    effects = set(stream.sample(possible, wanted))
    has_bars = any(series.drawn_as == "bar" for series in content.series)
    inside = has_bars and content.labels_shown and (
        stacked or (content.form in ("bar", "horizontal bar") and stream.chance(options.inside_labels))
    )  # fmt: skip
    if inside or (content.is_round and slice_labels == "inside"):
        effects.discard("hatching")  # values stand on the colours there
    if content.axis.below:
        effects.discard("rounded")  # rounds the upper end of a bar, which is where these begin
        inside = False
    return ChartStyle(
        width=width,
        height=height,
        family=CHINESE_FAMILY if content.language.code == "zh" else stream.weighted(weights["families"]),
        font_pixels=font_pixels,
        title_bold=stream.chance(0.7),
        palette_name=palette_name,
        palette=_palette(stream, palette_name, is_dark, names),
        is_dark=is_dark,
        paper=paper,
        panel=panel,
        ink="#e8e8e8" if is_dark else stream.choice(("#222222", "#333333", "#000000")),
        faint="#555b66" if is_dark else "#ffffff" if tinted else "#d5d8de",
        legend=legend,
        title_side=stream.weighted(weights["title_sides"]),
        source_side=stream.weighted(weights["title_sides"]),
        # Where a value is read off the axis, or hangs below zero, lines lead to it.
        grid=not content.labels_shown or content.axis.below > 0 or stream.chance(0.6),
        ticks=stream.chance(options.ticks),
        # The upper edge of a frame would strike out values above points and bars.
        frame=stream.chance(options.frame) and (inside or not content.labels_shown),
        smooth=content.labels_shown and stream.chance(options.smooth),
        bar_share=round(stream.uniform(0.55, 0.85), 2),
        line_width=max(1.2, min(width, height) / 512 * stream.uniform(1.5, 3.0)),
        line_styles=_in_turn(stream, weights["line_styles"], len(content.series)),
        markers=_in_turn(stream, weights["markers"], len(content.series)),
        labels_inside=inside,
        effects=frozenset(effects),
        slice_labels=slice_labels,
    )


def _in_turn(stream: Stream, weights: dict[str, float], count: int) -> tuple[str, ...]:
    """One for all, or one for each."""
    if stream.chance(0.6):
        return (stream.weighted(weights),) * count
    return tuple(stream.weighted(weights) for _ in range(count))


def _palette(stream: Stream, name: str, is_dark: bool, count: int) -> tuple[str, ...]:
    """At least `count` colours that can be told from each other and from the paper."""
    if name == "single":
        hue, strength = stream.unit(), stream.uniform(0.45, 0.8)
        low, high = (0.4, 0.85) if is_dark else (0.25, 0.75)
        steps = [low + (high - low) * place / max(1, count - 1) for place in range(count)]
        shades = [colorsys.hls_to_rgb(hue, step, strength) for step in steps]
        return tuple("#" + "".join(f"{round(part * 255):02x}" for part in shade) for shade in shades)
    palette: list[str] = []
    others = [color for colors in PALETTES.values() for color in colors]
    # No colour stands for two names: where the palette has too few, others' that are unlike all of its own are added.
    for number, color in enumerate([*stream.shuffled(PALETTES[name]), *others]):
        own = number < len(PALETTES[name])
        if not own and len(palette) >= count:
            break
        if is_dark and _luminance(color) <= 0.3:
            continue
        if own or all(math.dist(_rgb(color), _rgb(other)) >= _DIFFERENT for other in palette):
            palette.append(color)
    return tuple(palette)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[place : place + 2], 16) for place in (1, 3, 5))


def _luminance(color: str) -> float:
    red, green, blue = (part / 255 for part in _rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_ink(color: str) -> str:
    """White or black, whichever is easier to read on a colour."""
    return "#000000" if _luminance(color) > 0.45 else "#ffffff"
