"""What a chart says: names, numbers and axes, and the table that is its label.

A number in the table is a number that can be read in the picture. Either it is written there, or it lies on
a fraction of the axis's step that can be told apart by eye: then it is not a rounded number but an exact one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from html import escape

from data_engine.options import ChartOptions
from data_engine.random_stream import Stream
from data_engine.words import LANGUAGES, Language

ROUND_FORMS = ("pie", "donut", "rose")
_RIGHT_AXIS = {"en": " (right axis)", "zh": "(右轴)"}


@dataclass(frozen=True)
class Axis:
    """A value axis from zero to `step * ticks`."""

    step: Decimal
    ticks: int
    unit: str
    """"%" or ""."""

    @property
    def maximum(self) -> Decimal:
        return self.step * self.ticks

    def tick_texts(self) -> list[str]:
        return [text_of(self.step * tick) + self.unit for tick in range(self.ticks + 1)]


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

    @property
    def is_round(self) -> bool:
        return self.form in ROUND_FORMS

    def unit_of(self, series: Series) -> str:
        axis = self.right_axis if series.on_right_axis and self.right_axis is not None else self.axis
        return axis.unit

    def value_text(self, series: Series, place: int) -> str:
        """A value as picture and table write it."""
        return text_of(series.values[place]) + self.unit_of(series)

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
        said = {"title": self.title or "None", "source": "None", "x_title": "None", "y_title": "None"}
        return json.dumps({**said, "values": values}, ensure_ascii=False)


def text_of(value: Decimal) -> str:
    """A number without needless zeros and without an exponent."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def random_content(stream: Stream, form: str, options: ChartOptions, readable_steps: int) -> ChartContent:
    """The content of a chart of one form.

    `readable_steps`: how many heights along a value axis the picture can tell apart.
    """
    language = LANGUAGES[stream.choice(options.languages)]
    low, high = options.categories
    pool = stream.choice(language.categories)
    count = min(stream.integer(low, high), len(pool))
    in_order = any(name[:4].isdigit() for name in pool) or pool[0] in ("Jan", "一月")
    if in_order:
        first = stream.integer(0, len(pool) - count)
        categories = pool[first : first + count]
    else:
        categories = tuple(stream.sample(pool, count))
    series_count = 1 if form in ROUND_FORMS else stream.integer(*options.series)
    if form == "composite":
        series_count = max(2, series_count)
    names = stream.sample(language.measures, series_count + 1)
    labels_shown = form in ROUND_FORMS or form == "stacked bar" or stream.chance(options.labels)
    if form in ROUND_FORMS:
        return _round_chart(stream, language, form, categories, names[0])
    axis = _random_axis(stream)
    two_axes = form == "composite" and stream.chance(0.5)
    right_axis = _random_axis(stream, ticks=axis.ticks) if two_axes else None
    series: list[Series] = []
    bars = 1 if form == "composite" and (series_count == 2 or stream.chance(0.5)) else series_count - 1
    for number, name in enumerate(names[:series_count]):
        drawn_as = {"line": "line", "area": "area"}.get(form, "bar")
        if form == "composite" and number >= bars:
            drawn_as = "line"
        on_right = right_axis is not None and drawn_as == "line"
        scale = right_axis if on_right and right_axis is not None else axis
        share = 1 / series_count if form == "stacked bar" else 1.0
        quantum = _written_quantum(scale) if labels_shown else _readable_quantum(scale, readable_steps)
        largest = int(scale.maximum * Decimal(str(round(share, 4))) / quantum)
        smallest = max(1, largest // 8)
        values = tuple(
            _value(stream, quantum, smallest, largest, [s.values[place] for s in series if drawn_as != "bar"])
            for place in range(count)
        )
        suffix = _RIGHT_AXIS[language.code] if on_right else ""
        series.append(Series(name + suffix, values, drawn_as, on_right))
    title = _title(stream, language, names) if stream.chance(options.titles) else ""
    return ChartContent(
        form, language, title, tuple(categories), tuple(series), axis, right_axis, labels_shown
    )


def _value(stream: Stream, quantum: Decimal, smallest: int, largest: int, taken: list[Decimal]) -> Decimal:
    """A multiple of `quantum`, none that is taken: of two points in one place only the upper one is seen."""
    for _ in range(20):
        value = quantum * stream.integer(smallest, largest)
        if value not in taken:
            break
    return value


def _round_chart(
    stream: Stream, language: Language, form: str, categories: tuple[str, ...], name: str
) -> ChartContent:
    """A pie: shares that sum to 100 %, or plain numbers; its title is the name of its only column."""
    weights = [stream.integer(4, 20) for _ in categories]
    if stream.chance(0.6):
        total = sum(weights)
        shares = [weight * 100 // total for weight in weights]
        shares[0] += 100 - sum(shares)
        values, unit = [Decimal(share) for share in shares], "%"
    else:
        scale = stream.choice((1, 5, 10, 25, 50))
        values, unit = [Decimal(weight * scale + stream.integer(0, scale - 1)) for weight in weights], ""
    series = Series(name, tuple(values), "slice")
    axis = Axis(Decimal(1), 1, unit)
    return ChartContent(form, language, name, tuple(categories), (series,), axis, None, True)


def _random_axis(stream: Stream, ticks: int | None = None) -> Axis:
    ticks = stream.integer(4, 6) if ticks is None else ticks
    if stream.chance(0.15):
        steps = [step for step in (5, 10, 20) if step * ticks <= 100]
        return Axis(Decimal(stream.choice(steps)), ticks, "%")
    power = stream.choice((-1, 0, 0, 1, 1, 2))
    return Axis(Decimal(stream.choice((1, 2, 5))).scaleb(power), ticks, "")


def _written_quantum(axis: Axis) -> Decimal:
    """The least difference of values that are written in: a hundredth of the axis, about."""
    return Decimal(1).scaleb(axis.step.adjusted() - 1)


def _readable_quantum(axis: Axis, readable_steps: int) -> Decimal:
    """The finest fraction of a step that the picture can show."""
    for division in (10, 5, 2):
        if axis.ticks * division <= readable_steps:
            return axis.step / division
    return axis.step


def _title(stream: Stream, language: Language, names: list[str]) -> str:
    if language.code == "zh":
        return stream.choice(
            (f"{names[0]}与{names[-1]}统计", f"{stream.integer(1990, 2025)}年{names[0]}情况")
        )
    year = stream.integer(1990, 2025)
    return stream.choice(
        (f"{names[0]} and {names[-1]}", f"{names[0]} in {year}", f"{names[0]} by group, {year}")
    )
