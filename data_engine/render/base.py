"""What every renderer gives, and the pictures it gives it with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_engine.random_stream import Draws


@dataclass(frozen=True)
class Picture:
    """One encoded image."""

    data: bytes
    format: str
    """"png" or "jpg"."""
    width: int
    height: int
    pixels: np.ndarray | None = field(default=None, compare=False, repr=False)
    """What was encoded, gray [H, W], RGB or RGBA [H, W, C], so that a later stage need not decode it."""


@dataclass(frozen=True)
class Rendered:
    """A sample before it has a key."""

    pictures: tuple[Picture, ...]
    prompt: str
    response: str
    renderer: str
    """What drew it: "card", "echarts", "matplotlib", ..."""
    details: dict[str, Any] = field(default_factory=dict)
    """More for the provenance."""
    tells_places: bool = False
    """Whether response or details hold coordinates: then nothing may move or bend the picture any more, unless they
    can be told again."""
    told_again: Callable[[np.ndarray], tuple[str, dict[str, Any]]] | None = field(
        default=None, compare=False, repr=False
    )
    """Response and details for the one picture after a homography [3, 3] moved its pixels; None: they cannot be told
    again."""
    text_quads: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Four corners (x, y) in pixels, clockwise from the upper left one, of every line of text on a ground that is
    lively itself: only there does a degraded picture have to be legible. Empty: wherever there is ink."""
    plain_ground: bool = False
    """With text_quads: whether the ground is plain after all, so that what else is drawn has to be legible, too."""


class NoSampleError(Exception):
    """By rule this index has no sample. `reason` is counted, `place` tells the user where the cause is."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(f"{reason}: {place}")
        self.reason = reason
        self.place = place


class Renderer(ABC):
    """Made once per process and configuration; `render` is a pure function of its draws."""

    @abstractmethod
    def render(self, draws: Draws) -> Rendered:
        """The sample of `draws.index`. Raises NoSampleError when there is none by rule."""

    def versions(self) -> dict[str, str]:
        """What besides the options decides the bytes: library versions, hashes of assets and of input files."""
        return {}

    def close(self) -> None:  # noqa: B027 - most renderers hold nothing that needs closing
        """Let go of what the renderer holds."""
