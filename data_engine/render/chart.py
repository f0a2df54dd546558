"""Charts: content, style and layout are drawn at random, an engine paints, and what cannot be read is refused.

The table may hold nothing that the picture does not show. So every text that the table needs is looked for
among the texts that were painted, inside of the picture and clear of all others; a chart that fails is drawn
again from the streams of the next attempt.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from data_engine.assets import asset_path
from data_engine.fonts import CHINESE_FAMILY
from data_engine.options import ChartOptions, width_and_height
from data_engine.prompts import CHART_TO_DICTIONARY, PARSE_FIGURE
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.canvas_player import DrawnText
from data_engine.render.chart_content import ChartContent, random_content
from data_engine.render.chart_style import ChartLayout, ChartStyle, layout_of, random_style, slice_text
from data_engine.render.graphics import font_versions, graphics_versions, versions_of
from data_engine.render.png import encode

if TYPE_CHECKING:
    from data_engine.render.echarts_engine import EChartsEngine

_ATTEMPTS = 300
_ATTEMPTS_PER_FORM = 30


class ChartRenderer(Renderer):
    def __init__(self, options: ChartOptions) -> None:
        self._options = options
        self._width, self._height = width_and_height(options.size)
        side = min(self._width, self._height)
        self._font_pixels = options.font_pixels or (max(9.0, 0.024 * side), max(10.0, 0.03 * side))
        chinese = (CHINESE_FAMILY,) if "zh" in options.languages else ()
        self._families = ("sans", "serif", *chinese)
        self._font_hashes = font_versions(self._families)  # refuses at once when a font is missing
        self._uses_echarts = options.engine != "matplotlib"
        self._uses_matplotlib = options.engine != "echarts"
        if self._uses_echarts:
            asset_path("echarts.min.js")  # refuses at once when it is missing
        # Made with the first chart: who only asks for the versions, as the process that hands out shards, need not
        # wait a second for what draws them.
        self._engine: EChartsEngine | None = None

    def versions(self) -> dict[str, str]:
        versions = graphics_versions() | self._font_hashes
        if self._uses_echarts:
            versions |= versions_of("pyecharts", "mini-racer") | {"echarts": "6.1.0"}
        if self._uses_matplotlib:
            versions |= versions_of("matplotlib")
        return versions

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def render(self, draws: Draws) -> Rendered:
        options = self._options
        engine = options.engine
        if engine == "mixed":
            share = options.matplotlib_share
            engine = "matplotlib" if draws.stream("engine").chance(share) else "echarts"
        for attempt in range(_ATTEMPTS):
            content_stream, style_stream = (
                draws.stream(f"content/{attempt}"),
                draws.stream(f"style/{attempt}"),
            )
            em = round(style_stream.uniform(*self._font_pixels) * 2) / 2
            # A value can be told from the next when they lie half a letter apart on the axis.
            readable_steps = int(0.5 * min(self._width, self._height) / max(4.0, 0.45 * em))
            # A form is not given up at its first failure, or the simple ones would take over.
            form = draws.stream(f"form/{attempt // _ATTEMPTS_PER_FORM}").choice(options.forms)
            content = random_content(content_stream, form, options, readable_steps)
            style = random_style(style_stream, content, options, em)
            layout = layout_of(content, style)
            if layout is None:
                continue
            pixels, texts = self._draw(engine, content, style, layout)
            if is_legible(needed_texts(content, style), texts, self._width, self._height):
                details = {"form": content.form, "language": content.language.code, "attempt": attempt}
                prompt, label = PARSE_FIGURE, content.table()
                if options.label == "dictionary":
                    prompt, label = CHART_TO_DICTIONARY, content.dictionary()
                return Rendered((encode(pixels),), prompt, label, engine, details)
        raise NoSampleError(
            "no legible chart",
            f"{_ATTEMPTS} attempts at {self._width} x {self._height} pixels: make options.size larger, or "
            "options.categories or options.series smaller",
        )

    def _draw(
        self, engine: str, content: ChartContent, style: ChartStyle, layout: ChartLayout
    ) -> tuple[np.ndarray, list[DrawnText]]:
        if engine == "matplotlib":
            from data_engine.render.chart_matplotlib import draw_matplotlib

            return draw_matplotlib(content, style, layout)
        from data_engine.render.chart_echarts import draw_echarts
        from data_engine.render.echarts_engine import EChartsEngine

        if self._engine is None:
            self._engine = EChartsEngine(self._families)
        return draw_echarts(self._engine, content, style, layout)


def needed_texts(content: ChartContent, style: ChartStyle) -> Counter[str]:
    """Every text without which the table could not be read off the picture."""
    needed: Counter[str] = Counter()
    if content.title:
        needed[content.title] += 1
    if content.is_round:
        places = range(len(content.categories))
        if style.slice_labels == "outside":
            needed.update(slice_text(content, place) for place in places)
        else:
            needed.update(content.categories)
            needed.update(content.value_text(content.series[0], place) for place in places)
        return needed
    needed.update(content.categories)
    needed.update(series.name for series in content.series)
    if content.labels_shown:
        for series in content.series:
            needed.update(content.value_text(series, place) for place in range(len(series.values)))
    else:
        needed.update(content.axis.tick_texts())
        if content.right_axis is not None:
            needed.update(content.right_axis.tick_texts())
    return needed


def is_legible(needed: Counter[str], texts: list[DrawnText], width: int, height: int) -> bool:
    """Whether all needed texts are there, all texts inside of the picture, and none on top of another."""
    # ECharts writes the ticks of an axis with commas between thousands; the number is the same.
    drawn = Counter(text.text.replace(",", "") for text in texts)
    if any(drawn[text.replace(",", "")] < count for text, count in needed.items()):
        return False
    if any(t.left < 0 or t.top < 0 or t.right > width or t.bottom > height for t in texts):
        return False
    upright = sorted((text for text in texts if text.upright), key=lambda text: text.left)
    for number, text in enumerate(upright):
        for other in upright[number + 1 :]:
            if other.left >= text.right:
                break
            if other.top < text.bottom and text.top < other.bottom:
                return False
    return True
