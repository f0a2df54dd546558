"""Charts: content, style and layout are drawn at random, an engine paints, and what cannot be read is refused.

The table may hold nothing that the picture does not show. So every text that the table needs is looked for
among the texts that were painted, inside of the picture and clear of all others; a chart that fails is drawn
again from the streams of the next attempt.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.assets import asset_path
from data_engine.chart_options import ChartOptions
from data_engine.errors import ConfigError
from data_engine.fonts import CHINESE_FAMILY, font_file
from data_engine.languages import RIGHT_TO_LEFT
from data_engine.options import width_and_height
from data_engine.prompts import CHART_TO_DICTIONARY, PARSE_FIGURE
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.canvas_player import DrawnText
from data_engine.render.chart_content import ChartContent, random_content
from data_engine.render.chart_layout import ChartLayout, layout_of, slice_text
from data_engine.render.chart_style import ChartStyle, random_style
from data_engine.render.graphics import (
    file_versions,
    font_versions,
    graphics_versions,
    missing_characters,
    versions_of,
)
from data_engine.render.png import encode
from data_engine.sources.names import LONGEST_NAME, read_names

if TYPE_CHECKING:
    from data_engine.render.echarts_engine import EChartsEngine

_ATTEMPTS = 300
_ATTEMPTS_PER_FORM = 30
_LEAST_NAMES = 50


class ChartRenderer(Renderer):
    def __init__(self, options: ChartOptions) -> None:
        self._options = options
        self._forms = (weights := options.weights())["forms"]
        self._size = width_and_height(options.size)
        side = min(self._size)
        self._font_pixels = options.font_pixels or (max(9.0, 0.024 * side), max(10.0, 0.03 * side))
        self._families_of = {"en": [family for family, weight in weights["families"].items() if weight]}
        if weights["languages"]["zh"]:
            self._families_of["zh"] = [CHINESE_FAMILY]
        if not weights["languages"]["en"]:
            del self._families_of["en"]
        self._families = tuple(family for families in self._families_of.values() for family in families)
        self._font_hashes = font_versions(self._families)  # refuses at once when a font is missing
        self._names, self._names_hash = self._read_names()
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
        return versions | self._names_hash

    def _read_names(self) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
        """The user's names by language, and the hash of their file."""
        if self._options.names_file is None:
            return {}, {}
        path = Path(self._options.names_file)
        given = read_names(path)
        names: dict[str, tuple[str, ...]] = {}
        for language, families in self._families_of.items():
            unknown = {
                character
                for family in families
                for bold in (False, True)
                for character in missing_characters(font_file(family, bold), "".join(given))
            }
            # Neither engine turns a line of text round or joins letters.
            names[language] = tuple(
                name for name in given if unknown.isdisjoint(name) and not RIGHT_TO_LEFT.search(name)
            )
            if len(names[language]) < _LEAST_NAMES:
                raise ConfigError(
                    f"options.names_file={path} has {len(names[language])} names of up to {LONGEST_NAME} characters "
                    f"that the fonts of '{language}' can write: give at least {_LEAST_NAMES}, or options.languages "
                    "without it."
                )
        return names, file_versions([path])

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
            width, height = (round(side * style_stream.uniform(*options.sides)) for side in self._size)
            # A value can be told from the next when they lie half a letter apart on the axis.
            readable_steps = int(0.5 * min(width, height) / max(4.0, 0.45 * em))
            # A form is not given up at its first failure, or the simple ones would take over.
            form = draws.stream(f"form/{attempt // _ATTEMPTS_PER_FORM}").weighted(self._forms)
            content = random_content(content_stream, form, options, readable_steps, self._names)
            style = random_style(style_stream, content, options, em, width, height)
            layout = layout_of(content, style)
            if layout is None:
                continue
            pixels, texts = self._draw(engine, content, style, layout)
            if is_legible(needed_texts(content, style), texts, width, height):
                prompt, label = PARSE_FIGURE, content.table()
                if options.label == "dictionary":
                    prompt, label = CHART_TO_DICTIONARY, content.dictionary()
                details = _details(content, style) | {"attempt": attempt}
                if engine == "matplotlib":
                    details["effects"] = []  # ECharts alone draws them
                return Rendered((encode(pixels),), prompt, label, engine, details)
        raise NoSampleError(
            "no legible chart",
            f"{_ATTEMPTS} attempts at {self._size[0]} x {self._size[1]} pixels: make options.size larger, or "
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


def _details(content: ChartContent, style: ChartStyle) -> dict[str, Any]:
    """What kind of chart it is, for statistics."""
    axis = content.axis
    numbers = {"negative": axis.below > 0, "percent": axis.unit == "%", "thousands": axis.commas}
    asides = {
        "title": content.title,
        "subtitle": content.subtitle,
        "source": content.source,
        "category title": content.category_title,
        "value title": content.value_title,
        "right axis": content.right_axis,
    }
    where = "inside" if style.labels_inside else "outside"
    return {
        "form": content.form,
        "language": content.language.code,
        "numbers": [name for name, has in numbers.items() if has] or ["plain"],
        "labels": (style.slice_labels if content.is_round else where) if content.labels_shown else "none",
        "parts": [name for name, has in asides.items() if has],
        "legend": style.legend,
        "family": style.family,
        "palette": style.palette_name,
        "dark": style.is_dark,
        "effects": sorted(style.effects),
    }


def needed_texts(content: ChartContent, style: ChartStyle) -> Counter[str]:
    """Every text without which the table could not be read off the picture."""
    needed: Counter[str] = Counter()
    asides = (content.subtitle, content.source, content.category_title, content.value_title)
    needed.update(text for text in (content.title, *asides) if text)
    if content.is_round:
        places = range(len(content.categories))
        if style.slice_labels == "outside":
            needed.update(slice_text(content, place) for place in places)
        else:
            needed.update(content.categories)
            needed.update(content.value_text(content.series[0], place) for place in places)
        return needed
    needed.update(content.categories)
    if content.has_legend:
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
    drawn = Counter(text.text for text in texts)
    if any(drawn[text] < count for text, count in needed.items()):
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
