"""Degradation: what print, camera, scanner and storage do to a picture, as one stage behind every renderer.

Labels stay true. Where they tell places, nothing moves or bends the picture unless its renderer can tell them again;
colours stay where a picture has any, for they may carry meaning; and a picture that is illegible afterwards is thrown
away and counted: see `degrade_legibility`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from data_engine.degrade_options import DEGRADATIONS, DegradeOptions
from data_engine.markup import DET
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Picture, Rendered, Renderer
from data_engine.render.degrade_legibility import (
    LEAST_CONTRAST,
    LEAST_CORRELATION,
    Quad,
    legibility,
    quad_legibility,
)
from data_engine.render.degrade_steps import STEPS, perspective
from data_engine.render.jpeg import encode_jpeg

cv2.setNumThreads(1)

ILLEGIBLE = "illegible after degradation"
_STORED_QUALITY = 92


class DegradingRenderer(Renderer):
    """A renderer whose pictures are degraded."""

    def __init__(self, renderer: Renderer, options: DegradeOptions) -> None:
        self._renderer = renderer
        self._options = options

    def versions(self) -> dict[str, str]:
        return self._renderer.versions()

    def close(self) -> None:
        self._renderer.close()

    def render(self, draws: Draws) -> Rendered:
        rendered = self._renderer.render(draws)
        stream = draws.stream("degrade")
        if not stream.chance(self._options.probability):
            return rendered
        rigid = (rendered.tells_places or DET in rendered.response) and rendered.told_again is None
        response, details = rendered.response, rendered.details
        pictures, told = [], []
        for picture in rendered.pictures:
            pixels = picture.pixels if picture.pixels is not None else _decoded(picture)
            degraded = degrade(
                pixels,
                stream,
                self._options,
                rigid=rigid,
                text_quads=rendered.text_quads,
                plain_ground=rendered.plain_ground,
            )
            told.append(degraded.applied)
            if not degraded.applied:
                pictures.append(picture)
                continue
            correlation, contrast = degraded.legibility
            if correlation < LEAST_CORRELATION or contrast < LEAST_CONTRAST:
                what = ", ".join(f"{name} {value}" for name, value in degraded.applied.items())
                raise NoSampleError(
                    ILLEGIBLE, f"correlation {correlation:.2f}, contrast {contrast:.0f} ({what})"
                )
            pictures.append(encode_jpeg(degraded.pixels, degraded.quality))
            if degraded.motion is not None and rendered.told_again is not None:
                response, details = rendered.told_again(degraded.motion)
        if not any(told):
            return rendered
        details = {**details, "degradation": told}
        return replace(rendered, pictures=tuple(pictures), response=response, details=details)


@dataclass(frozen=True)
class Degraded:
    """A degraded picture."""

    pixels: np.ndarray
    quality: int
    """Of the JPEG that it shall be stored as."""
    applied: dict[str, float]
    """Each degradation with its measure, in the order in which they were applied; empty: none was possible."""
    legibility: tuple[float, float]
    motion: np.ndarray | None = None
    """The homography [3, 3] that took every point (x, y) to where it is now, the upper left corner of the picture being
    (0, 0); None: nothing moved."""


def degrade(
    pixels: np.ndarray,
    stream: Stream,
    options: DegradeOptions,
    *,
    rigid: bool,
    text_quads: Sequence[Quad] = (),
    plain_ground: bool = False,
) -> Degraded:
    """Degrade gray [H, W], RGB or RGBA [H, W, C] uint8; the size stays.

    `rigid` forbids whatever moves a point of the picture; `text_quads` and `plain_ground`: see `Rendered`.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
    impossible = {"perspective"} if rigid else set()
    if pixels.ndim == 3:
        impossible.add("binarisation")
    chosen = _chosen(options, impossible, stream)
    strengths = options.strengths()
    applied: dict[str, float] = {}
    clean, quality, motion = pixels, _STORED_QUALITY, None
    for kind in DEGRADATIONS:
        if kind not in chosen:
            continue
        amount = strengths[kind] * stream.uniform(0.3, 1.0)
        if kind == "jpeg":
            quality = round(90 - 60 * amount)
            applied[kind] = quality
            continue
        if kind == "perspective":
            motion, pixels = perspective(pixels, stream, amount)
            clean = pixels  # it comes before all that wears ink off
            text_quads = [_moved_quad(motion, quad) for quad in text_quads]
        else:
            pixels = STEPS[kind](pixels, stream, amount)
        applied[kind] = round(amount, 3)
    verdicts = [legibility(clean, pixels)] if plain_ground or not text_quads else []
    if text_quads:
        verdicts.append(quad_legibility(clean, pixels, text_quads))
    correlations, contrasts = zip(*verdicts, strict=True)
    return Degraded(pixels, quality, applied, (min(correlations), min(contrasts)), motion)


def _chosen(options: DegradeOptions, impossible: set[str], stream: Stream) -> set[str]:
    """Different degradations by their weights, as many as wanted and possible."""
    left = {name: weight for name, weight in options.weights().items() if weight and name not in impossible}
    wanted = stream.integer(*options.count)
    chosen: set[str] = set()
    while left and len(chosen) < wanted:
        name = stream.weighted(left)
        del left[name]
        chosen.add(name)
    return chosen


def _moved_quad(motion: np.ndarray, quad: Quad) -> Quad:
    moved = cv2.perspectiveTransform(np.array([quad]), motion)[0]
    return tuple((float(x), float(y)) for x, y in moved)


def _decoded(picture: Picture) -> np.ndarray:
    """The pixels of a picture that came encoded: gray [H, W] or RGB [H, W, 3]."""
    data: Any = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if data is None:
        raise NoSampleError(
            "image that cannot be decoded", f"{picture.width} x {picture.height} {picture.format}"
        )
    if data.ndim == 2:
        return data
    return cv2.cvtColor(data, cv2.COLOR_BGRA2RGB if data.shape[2] == 4 else cv2.COLOR_BGR2RGB)
