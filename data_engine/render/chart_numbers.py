"""The numbers of a chart: axes, and values that can be read off them.

A number in the table is a number that can be read in the picture. Either it is written there, or it lies on
a fraction of the axis's step that can be told apart by eye: then it is not a rounded number but an exact one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from data_engine.chart_options import ChartOptions
from data_engine.random_stream import Stream


@dataclass(frozen=True)
class Axis:
    """A value axis from `-step * below` to `step * above`, and how numbers on it are written."""

    step: Decimal
    above: int
    unit: str
    """"%" or ""."""
    below: int = 0
    commas: bool = False
    """Whether commas stand between thousands."""

    @property
    def maximum(self) -> Decimal:
        return self.step * self.above

    @property
    def minimum(self) -> Decimal:
        return -self.step * self.below

    @property
    def ticks(self) -> int:
        """Steps from end to end."""
        return self.below + self.above

    def text(self, value: Decimal) -> str:
        """A value as picture and table write it."""
        return text_of(value, self.commas) + self.unit

    def tick_values(self) -> list[Decimal]:
        return [self.step * tick for tick in range(-self.below, self.above + 1)]

    def tick_texts(self) -> list[str]:
        return [self.text(value) for value in self.tick_values()]

    def share(self, value: Decimal) -> float:
        """How far up the axis a value lies, 0 to 1."""
        return float((value - self.minimum) / (self.maximum - self.minimum))


def text_of(value: Decimal, commas: bool = False) -> str:
    """A number without needless zeros and without an exponent."""
    text = format(value, ",f" if commas else "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def random_axis(
    stream: Stream, options: ChartOptions, ticks: int | None = None, signed: bool = False
) -> Axis:
    """An axis of four to six steps, or of `ticks`; with `signed` it goes below zero."""
    ticks = stream.integer(4, 6) if ticks is None else ticks
    below = stream.integer(1, ticks // 2) if signed else 0
    if stream.chance(options.percent):
        steps = [step for step in (5, 10, 20) if step * (ticks - below) <= 100]
        return Axis(Decimal(stream.choice(steps)), ticks - below, "%", below)
    power = stream.choice((-1, 0, 0, 1, 1, 2, 2, 3, 4))
    step = Decimal(stream.choice((1, 2, 5))).scaleb(power)
    commas = step * ticks >= 1000 and stream.chance(options.thousands)
    return Axis(step, ticks - below, "", below, commas)


def quantum_of(axis: Axis, written: bool, readable_steps: int) -> Decimal:
    """The least difference of values: a hundredth of the axis, about, where they are written in; else the finest
    fraction of a step that can be told apart when the picture shows `readable_steps` heights."""
    if written:
        return Decimal(1).scaleb(axis.step.adjusted() - 1)
    for division in (10, 5, 2):
        if axis.ticks * division <= readable_steps:
            return axis.step / division
    return axis.step


def random_value(stream: Stream, axis: Axis, quantum: Decimal, share: float, taken: list[Decimal]) -> Decimal:
    """A multiple of `quantum` up to `share` of the axis, and not near zero. None that is taken: of two points in one
    place only the upper one is seen."""
    for _ in range(20):
        down = axis.below > 0 and stream.chance(0.4)
        # What hangs down to the end of the axis would stand on the names of the categories.
        length = -axis.minimum * Decimal("0.85") if down else axis.maximum * Decimal(str(round(share, 4)))
        largest = max(1, int(length / quantum))
        value = quantum * stream.integer(max(1, largest // 8), largest) * (-1 if down else 1)
        if value not in taken:
            break
    return value


def random_shares(stream: Stream, count: int, options: ChartOptions) -> tuple[list[Decimal], Axis]:
    """The values of a pie, and how they are written: shares that sum to 100 %, or plain numbers."""
    parts = [stream.integer(4, 20) for _ in range(count)]
    if stream.chance(0.6):
        total = sum(parts)
        shares = [part * 100 // total for part in parts]
        shares[0] += 100 - sum(shares)
        return [Decimal(share) for share in shares], Axis(Decimal(1), 1, "%")
    scale = stream.choice((1, 5, 10, 25, 50, 250, 1000))
    values = [Decimal(part * scale + stream.integer(0, scale - 1)) for part in parts]
    commas = max(values) >= 1000 and stream.chance(options.thousands)
    return values, Axis(Decimal(1), 1, "", commas=commas)
