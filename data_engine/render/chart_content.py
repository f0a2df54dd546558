"""What a chart says: names, numbers and axes, and the table that is its label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from types import MappingProxyType

from data_engine.chart_options import ChartOptions
from data_engine.random_stream import Stream
from data_engine.render.chart_names import Names
from data_engine.render.chart_numbers import Axis, quantum_of, random_axis, random_shares, random_value
from data_engine.words import LANGUAGES, Language

ROUND_FORMS = ("pie", "donut", "rose")
SIGNED_FORMS = ("bar", "horizontal bar", "line")
"""Forms that may have values below zero."""
_RIGHT_AXIS = {"en": " (right axis)", "zh": "(右轴)"}


@dataclass(frozen=True)
class Series:
    """One column of the table."""

    name: str
    values: tuple[Decimal, ...]
    drawn_as: str
    """"bar", "line", "area" or "slice"."""
    on_right_axis: bool = False


@dataclass(frozen=True)
class ChartContent:
    """All that a chart says."""

    form: str
    language: Language
    title: str
    """"" for none."""
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    axis: Axis
    right_axis: Axis | None
    labels_shown: bool
    """Whether values are written into the picture."""
    subtitle: str = ""
    source: str = ""
    category_title: str = ""
    """Of the axis that the categories stand at."""
    value_title: str = ""
    """Of the value axis, the left one where there are two."""
    has_legend: bool = True
    """Without one the title names the only series."""
    heights: int = 0
    """How many different heights values can have that are read off an axis; 0 where they are written in."""

    @property
    def is_round(self) -> bool:
        return self.form in ROUND_FORMS

    def axis_of(self, series: Series) -> Axis:
        return self.right_axis if series.on_right_axis and self.right_axis is not None else self.axis

    def value_text(self, series: Series, place: int) -> str:
        """A value as picture and table write it."""
        return self.axis_of(series).text(series.values[place])

    def table(self) -> str:
        """The label: empty corner, one column per series, one row per category."""
        header = "".join(f"<td>{escape(series.name)}</td>" for series in self.series)
        rows = [f"<tr><td></td>{header}</tr>"]
        for place, category in enumerate(self.categories):
            cells = "".join(f"<td>{self.value_text(series, place)}</td>" for series in self.series)
            rows.append(f"<tr><td>{escape(category)}</td>{cells}</tr>")
        return f"<table>{''.join(rows)}</table>"

    def dictionary(self) -> str:
        """The label as OneChart has it (arXiv 2404.09987): a name to a value, or with several series first theirs.

        What the picture does not say is "None".
        """
        columns = {
            series.name: {
                category: self.value_text(series, place) for place, category in enumerate(self.categories)
            }
            for series in self.series
        }
        values = columns if len(columns) > 1 else next(iter(columns.values()))
        titles = [self.category_title, self.value_title]
        x_title, y_title = reversed(titles) if self.form == "horizontal bar" else titles
        texts = {"title": self.title, "source": self.source, "x_title": x_title, "y_title": y_title}
        said = {key: text or "None" for key, text in texts.items()}
        return json.dumps({**said, "values": values}, ensure_ascii=False)


def random_content(
    stream: Stream,
    form: str,
    options: ChartOptions,
    readable_steps: int,
    given: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> ChartContent:
    """The content of a chart of one form, whatever the weights of forms say.

    `readable_steps`: how many heights along a value axis the picture can tell apart. `given`: the user's names by the
    code of the language.
    """
    language = LANGUAGES[stream.weighted(options.weights()["languages"])]
    names = Names(stream, language, given.get(language.code, ()))
    categories = names.categories(stream.integer(*options.categories), options)
    is_round = form in ROUND_FORMS
    count = 1 if is_round else max(stream.integer(*options.series), 2 if form == "composite" else 1)
    series_names = names.series(count)
    has_legend = is_round or count > 1 or not stream.chance(options.legendless)
    titled = is_round or not has_legend
    title = series_names[0] if titled else names.title(series_names) if stream.chance(options.titles) else ""
    subtitle = names.subtitle() if title and stream.chance(options.subtitles) else ""
    source = names.source() if stream.chance(options.sources) else ""
    if is_round:
        values, axis = random_shares(stream, len(categories), options)
        slices = Series(title, tuple(values), "slice")
        return ChartContent(form, language, title, categories, (slices,), axis, None, True, subtitle, source)
    labels_shown = form == "stacked bar" or stream.chance(options.labels)
    signed = form in SIGNED_FORMS and stream.chance(options.negative)
    axis = random_axis(stream, options, signed=signed)
    two_axes = form == "composite" and stream.chance(0.5)
    right_axis = random_axis(stream, options, ticks=axis.ticks) if two_axes else None
    series: list[Series] = []
    heights = 0
    bars = 1 if form == "composite" and (count == 2 or stream.chance(0.5)) else count - 1
    for number, name in enumerate(series_names):
        drawn_as = {"line": "line", "area": "area"}.get(form, "bar")
        if form == "composite" and number >= bars:
            drawn_as = "line"
        on_right = right_axis is not None and drawn_as == "line"
        scale = right_axis if on_right and right_axis is not None else axis
        share = 1 / count if form == "stacked bar" else 1.0
        quantum = quantum_of(scale, labels_shown, readable_steps)
        if not labels_shown:
            heights = max(heights, int((scale.maximum - scale.minimum) / quantum))
        drawn: list[Decimal] = []
        for place in range(len(categories)):
            taken = [other.values[place] for other in series if drawn_as != "bar"]
            drawn.append(random_value(stream, scale, quantum, share, taken))
        suffix = _RIGHT_AXIS[language.code] if on_right else ""
        series.append(Series(name + suffix, tuple(drawn), drawn_as, on_right))
    return ChartContent(
        form,
        language,
        title,
        categories,
        tuple(series),
        axis,
        right_axis,
        labels_shown,
        subtitle,
        source,
        category_title=names.axis_title() if stream.chance(options.axis_titles) else "",
        value_title=names.axis_title() if stream.chance(options.axis_titles) else "",
        has_legend=has_legend,
        heights=heights,
    )
