"""What the parts of a chart are called: lists of things, dates, and names that mean nothing and must be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

from data_engine.chart_options import ChartOptions
from data_engine.random_stream import Stream
from data_engine.words import CHINESE, Language

_TRIES = 200


class Names:
    """Draws names of one language."""

    def __init__(self, stream: Stream, language: Language, given: Sequence[str]) -> None:
        """`given`: names of the user, which the entities are then; may be empty."""
        self._stream = stream
        self._language = language
        self._chinese = language.code == CHINESE.code
        self._given = given
        self._words = [word for word in language.words if len(word) >= (2 if self._chinese else 4)]

    def entity(self) -> str:
        """A name of random words, or one of those that the user gave."""
        stream = self._stream
        if self._given:
            return stream.choice(self._given)
        first, second = stream.choice(self._words), stream.choice(self._words)
        if self._chinese:
            return stream.choice((first, first + second, first + stream.choice("甲乙丙丁ABC")))
        first, second = first.capitalize(), second.capitalize()
        number = str(stream.integer(1, 99))
        return stream.choice((first, first, f"{first} {second}", f"{first} {number}", f"{first[0]}{number}"))

    def measure(self) -> str:
        """Something that is counted, sometimes of something."""
        measure = self._stream.choice(self._language.measures)
        if not self._stream.chance(0.25):
            return measure
        word = self._stream.choice(self._words)
        return word + measure if self._chinese else f"{word.capitalize()} {measure.lower()}"

    def series(self, count: int) -> list[str]:
        """Different names for series: measures, or entities, or years."""
        source = self._stream.weighted({"measures": 3.0, "entities": 1.5, "years": 0.5})
        if source == "years":
            first = self._stream.integer(1985, 2025 - count)
            return [f"{year}年" if self._chinese else str(year) for year in range(first, first + count)]
        return self._different(self.measure if source == "measures" else self.entity, count)

    def categories(self, count: int, options: ChartOptions) -> tuple[str, ...]:
        """Different names for categories."""
        stream = self._stream
        source = stream.weighted(options.weights()["names"])
        if source == "dates":
            return self._dates(count)
        if source == "entities":
            return tuple(self._different(self.entity, count))
        pool = stream.choice(self._language.categories)
        if any(name[:4].isdigit() for name in pool) or pool[0] in ("Jan", "一月"):
            first = stream.integer(0, len(pool) - count)
            return pool[first : first + count]
        return tuple(stream.sample(pool, count))

    def axis_title(self) -> str:
        """Of an axis: what is counted, or an entity."""
        return self.measure() if self._stream.chance(0.5) else self.entity()

    def title(self, series: Sequence[str]) -> str:
        stream, year = self._stream, self._stream.integer(1990, 2025)
        first, last, thing = series[0], series[-1], self.entity()
        if self._chinese:
            return stream.choice(
                (f"{first}与{last}统计", f"{year}年{first}情况", f"{thing}{first}", f"{thing}：{first}")
            )
        return stream.choice(
            (f"{first} and {last}", f"{first} in {year}", f"{first} by group, {year}", f"{thing}: {first}",
             f"{first} of {thing}", thing)
        )  # fmt: skip

    def subtitle(self) -> str:
        separator = self._language.separator
        words = [self._stream.choice(self._words) for _ in range(self._stream.integer(2, 5))]
        text = separator.join(words)
        return text[:1].upper() + text[1:]

    def source(self) -> str:
        opening = self._stream.choice(("数据来源：", "来源：")) if self._chinese else "Source: "
        return opening + self.entity()

    def _different(self, draw: Callable[[], str], count: int) -> list[str]:
        names: dict[str, None] = {}
        for _ in range(_TRIES):
            names[draw()] = None
            if len(names) == count:
                return list(names)
        raise ValueError(f"no {count} different names")

    def _dates(self, count: int) -> tuple[str, ...]:
        """Points in time that follow each other at equal distances."""
        stream = self._stream
        year, start = stream.integer(1960, 2025), stream.integer(0, 11)
        form = stream.choice(
            ("months", "iso months", "quarters", "years", "decades", "days", "weekdays", "hours")
        )
        months = [(year + (start + place) // 12, (start + place) % 12 + 1) for place in range(count)]
        if form == "iso months":
            return tuple(f"{y}-{m:02d}" for y, m in months)
        if form == "quarters":
            quarters = [(year + (start + place) // 4, (start + place) % 4 + 1) for place in range(count)]
            return tuple(f"{y}年Q{q}" if self._chinese else f"Q{q} {y}" for y, q in quarters)
        if form in ("years", "decades"):
            step = 10 if form == "decades" else stream.choice((1, 2, 5))
            last = 2020 - 10 * stream.integer(0, 6) if form == "decades" else year
            first = last - step * (count - 1)
            ending = (
                ("年代" if form == "decades" else "年") if self._chinese else "s" if form == "decades" else ""
            )
            return tuple(f"{first + step * place}{ending}" for place in range(count))
        if form == "days":
            first_day, step = date(year, start + 1, stream.integer(1, 28)), stream.choice((1, 1, 7))
            days = [first_day + timedelta(days=step * place) for place in range(count)]
            if self._chinese:
                return tuple(f"{day.month}月{day.day}日" for day in days)
            return tuple(f"{day.day} {_MONTHS[day.month - 1]}" for day in days)
        if form == "weekdays" and count <= 7:
            names = _WEEKDAYS_CHINESE if self._chinese else _WEEKDAYS
            return tuple(names[(start + place) % 7] for place in range(count))
        if form == "hours":
            return tuple(f"{(start + place) % 24:02d}:00" for place in range(count))
        return tuple(f"{y}年{m}月" if self._chinese else f"{_MONTHS[m - 1]} {y}" for y, m in months)


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEKDAYS_CHINESE = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")
