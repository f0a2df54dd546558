"""What a user may set for plane figures: every way in which they differ has a share, a span or weights.

A share is a number from 0 to 1, a span is [MIN,MAX]. Weights are names, [square,circle], each then as likely as the
others; or a dictionary, {circle: 0, triangle: 3}, that changes some of the usual weights and leaves the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_engine.errors import in_range, span, weights_of_options


def _usual(**of_names: float) -> Mapping[str, float]:
    return MappingProxyType(of_names)


USUAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "shapes": _usual(
            square=1.0,
            rectangle=1.0,
            parallelogram=1.0,
            rhombus=1.0,
            trapezoid=1.0,
            quadrilateral=1.0,
            triangle=1.0,
            angle=0.5,
            circle=1.5,
        ),
        "additions": _usual(
            diagonal=3.0,
            side=3.0,
            height=1.5,
            parallel=1.5,
            extension=1.5,
            fold=0.5,
            chord=1.0,
            radius=1.0,
            tangent=1.0,
        ),
        "families": _usual(sans=1.0, serif=1.0, mono=0.0),
    }
)
"""The usual weights of all that is chosen by name."""
_SHARES = (
    "deleted", "circles", "more_circles", "letters", "intersections", "center_letters", "center_dots", "dashed",
    "translation",
)  # fmt: skip


@dataclass
class GeometryOptions:
    """A plane figure after Slow Perception; the label is the paper's dictionary, perception ruler 4."""

    size: int = 512
    """Side of the square image in pixels."""
    shapes: Any = None
    """Weights of square, rectangle, parallelogram, rhombus, trapezoid, quadrilateral (any other), triangle, angle,
    circle; null: {angle: 0.5, circle: 1.5}, all others 1."""
    deleted: float = 0.1
    """Share of the shapes with four sides that lose a corner: an open figure, or the triangle that is left."""
    extra_lines: list[int] = field(default_factory=lambda: [0, 3])
    """[MIN,MAX] times that something is added to a shape."""
    additions: Any = None
    """Weights of what is added, where it is possible: diagonal (any two corners), side (to a point on a side), height,
    parallel (between two sides), extension (of a side), fold (of a corner), chord, radius, tangent (all three of a
    circle); null: {diagonal: 3, side: 3, height: 1.5, parallel: 1.5, extension: 1.5, fold: 0.5}, those of circles 1."""
    circles: float = 0.25
    """Share of the figures with straight sides that get a circle in or around them."""
    more_circles: float = 0.15
    """Share of the figures with a circle that get a second one."""
    letters: float = 0.9
    """Share of figures with letters at their points."""
    intersections: float = 0.1
    """Share of figures with letters that have them where lines cross, too."""
    center_letters: float = 0.5
    """Share of figures with letters that have them at centres where no line ends."""
    center_dots: float = 0.5
    """Share of circles whose centre is marked by a dot; one with a letter always is."""
    dashed: float = 0.2
    """Share of dashed lines."""
    translation: float = 1.0
    """How far the figure may be shifted off the middle: 0 not at all, 1 to the margin. Never shifts the label."""
    line_widths: list[float] = field(default_factory=lambda: [0.0018, 0.0055])
    """[MIN,MAX] width of the lines in shares of size, but at least a pixel."""
    dashes: list[float] = field(default_factory=lambda: [0.01, 0.017])
    """[MIN,MAX] length of a dash in shares of size, but at least 3 pixels."""
    letter_sizes: list[float] = field(default_factory=lambda: [0.03, 0.042])
    """[MIN,MAX] font size of the letters in shares of size, but at least 10 pixels."""
    families: Any = None
    """Weights of the fonts of the letters: sans, serif, mono; null: {sans: 1, serif: 1, mono: 0}."""
    ink: list[int] = field(default_factory=lambda: [0, 50])
    """[MIN,MAX] grey level of lines and letters, 0 (black) to 130."""
    paper: list[int] = field(default_factory=lambda: [235, 255])
    """[MIN,MAX] grey level of the paper, 170 to 255 (white)."""

    def __post_init__(self) -> None:
        in_range("options.size", self.size, 64, 4096)
        span("options.extra_lines", self.extra_lines, 0, 6)
        for key in _SHARES:
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        span("options.line_widths", self.line_widths, 0, 0.02)
        span("options.dashes", self.dashes, 0, 0.05)
        span("options.letter_sizes", self.letter_sizes, 0, 0.08)
        span("options.ink", self.ink, 0, 130)
        span("options.paper", self.paper, 170, 255)
        self.weights()

    def weights(self) -> dict[str, dict[str, float]]:
        """The weight of every choice of the fields in USUAL. ConfigError where what the user gave makes none."""
        return weights_of_options(self, USUAL)
