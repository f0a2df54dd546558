"""What a user may set for plane figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.errors import ConfigError, in_range, one_of, span

SHAPES = ("square", "rectangle", "parallelogram", "rhombus", "trapezoid", "triangle", "circle")


@dataclass
class GeometryOptions:
    """A plane figure after Slow Perception; the label is the paper's dictionary, perception ruler 4."""

    size: int = 512
    """Side of the square image in pixels."""
    shapes: list[str] = field(default_factory=lambda: list(SHAPES))
    """Shapes to draw from: square, rectangle, parallelogram, rhombus, trapezoid, triangle, circle."""
    extra_lines: list[int] = field(default_factory=lambda: [0, 3])
    """[MIN,MAX] diagonals, medians, heights and the like."""
    circles: float = 0.25
    """Share of the figures with straight sides that get a circle in or around them, 0 to 1."""
    letters: float = 0.9
    """Share of figures with letters at their points, 0 to 1."""
    dashed: float = 0.2
    """Share of dashed lines, 0 to 1."""
    translation: float = 1.0
    """How far the figure may be shifted off the middle: 0 not at all, 1 to the margin. Never shifts the label."""

    def __post_init__(self) -> None:
        in_range("options.size", self.size, 64, 4096)
        span("options.extra_lines", self.extra_lines, 0, 6)
        for key in ("circles", "letters", "dashed", "translation"):
            in_range(f"options.{key}", getattr(self, key), 0, 1)
        if not self.shapes:
            raise ConfigError(f"options.shapes needs at least one of {', '.join(SHAPES)}.")
        for shape in self.shapes:
            one_of("options.shapes", shape, SHAPES)
