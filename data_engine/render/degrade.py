"""Degradation: what print, camera, scanner and storage do to a picture, as one stage behind every renderer.

Labels stay true. Where they tell places, nothing moves or bends the picture unless its renderer can tell them again;
colours stay where a picture has any, for they may carry meaning; and a picture that is illegible afterwards is thrown
away and counted. The rule for that is `legibility`: in tiles with ink, or in the lines of text where the ground has
a pattern of its own, how much of the clean picture is still in the degraded one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from data_engine.document_options import DEGRADATIONS, DegradeOptions
from data_engine.markup import DET
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError, Picture, Rendered, Renderer
from data_engine.render.jpeg import encode_jpeg

cv2.setNumThreads(1)

ILLEGIBLE = "illegible after degradation"
LEAST_CORRELATION = 0.55
LEAST_CONTRAST = 9.0
"""Standard deviation in grey levels; black text on white paper has 60 to 90."""
_TILE = 32  # pixels
_INK = 10.0  # grey levels: a tile that varies less has nothing to read
_NOISE_SIDE = 1024
Quad = tuple[tuple[float, float], ...]
"""Four corners (x, y) in pixels."""
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
            degraded = degrade(pixels, stream, self._options, rigid=rigid, text_quads=rendered.text_quads)
            correlation, contrast = degraded.legibility
            if correlation < LEAST_CORRELATION or contrast < LEAST_CONTRAST:
                what = ", ".join(f"{name} {value}" for name, value in degraded.applied.items())
                raise NoSampleError(
                    ILLEGIBLE, f"correlation {correlation:.2f}, contrast {contrast:.0f} ({what})"
                )
            pictures.append(encode_jpeg(degraded.pixels, degraded.quality))
            told.append(degraded.applied)
            if degraded.motion is not None and rendered.told_again is not None:
                response, details = rendered.told_again(degraded.motion)
        details = {**details, "degradation": told}
        return replace(rendered, pictures=tuple(pictures), response=response, details=details)


@dataclass(frozen=True)
class Degraded:
    """A degraded picture."""

    pixels: np.ndarray
    quality: int
    """Of the JPEG that it shall be stored as."""
    applied: dict[str, float]
    """Each degradation with its measure, in the order in which they were applied."""
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
) -> Degraded:
    """Degrade gray [H, W], RGB or RGBA [H, W, C] uint8; the size stays.

    `rigid` forbids whatever moves a point of the picture; `text_quads`: see `Rendered`.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
    possible = [
        kind
        for kind in options.kinds
        if not (rigid and kind == "perspective") and not (pixels.ndim == 3 and kind == "binarisation")
    ]
    count = min(len(possible), stream.integer(*options.count))
    chosen = set(stream.sample(possible, count))
    applied: dict[str, float] = {}
    clean, quality, motion = pixels, _STORED_QUALITY, None
    for kind in DEGRADATIONS:
        if kind not in chosen:
            continue
        amount = options.strength * stream.uniform(0.3, 1.0)
        if kind == "jpeg":
            quality = round(90 - 60 * amount)
            applied[kind] = quality
            continue
        if kind == "perspective":
            motion, pixels = _perspective(pixels, stream, amount)
            clean = pixels  # it comes before all that wears ink off
            text_quads = [_moved_quad(motion, quad) for quad in text_quads]
        else:
            pixels = _STEPS[kind](pixels, stream, amount)
        applied[kind] = round(amount, 3)
    legible = quad_legibility(clean, pixels, text_quads) if text_quads else legibility(clean, pixels)
    return Degraded(pixels, quality, applied, legible, motion)


def quad_legibility(clean: np.ndarray, degraded: np.ndarray, quads: Sequence[Quad]) -> tuple[float, float]:
    """(correlation, contrast) as `legibility` has them, over the lines of text alone; those of the worst line.

    The correlation is that of the strokes: what varies over more than a third of a line's height is taken out first,
    or a line that is smeared to a bar would still be where it was.
    """
    pictures = _gray(clean), _gray(degraded)
    worst_correlation, worst_contrast = 1.0, 255.0
    for quad in quads:
        corners = np.array(quad)
        left, top = np.maximum(0, np.floor(corners.min(axis=0))).astype(int)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int)
        crops = [picture[top:bottom, left:right] for picture in pictures]
        mask = np.zeros(crops[0].shape, np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners - (left, top)).astype(np.int32), 1)
        height = min(math.dist(quad[0], quad[3]), math.dist(quad[1], quad[2]))
        window = 2 * round(height / 6) + 3
        strokes = [cv2.subtract(crop, cv2.blur(crop, (window, window)), dtype=cv2.CV_32F) for crop in crops]
        worst_correlation = min(worst_correlation, _agreement(strokes, mask)[0])
        worst_contrast = min(worst_contrast, _agreement(crops, mask)[1])
    return worst_correlation, worst_contrast


def _agreement(pair: Sequence[np.ndarray], mask: np.ndarray) -> tuple[float, float]:
    """(correlation, contrast) of two gray pictures [H, W] under a mask."""
    (mean_a, spread_a), (mean_b, spread_b) = (
        (float(mean[0, 0]), max(1e-3, float(spread[0, 0])))
        for mean, spread in (cv2.meanStdDev(picture, mask=mask) for picture in pair)
    )
    together = cv2.mean(cv2.multiply(pair[0], pair[1], dtype=cv2.CV_32F), mask)[0] - mean_a * mean_b
    return together / spread_a / spread_b, together / spread_a


def _moved_quad(motion: np.ndarray, quad: Quad) -> Quad:
    moved = cv2.perspectiveTransform(np.array([quad]), motion)[0]
    return tuple((float(x), float(y)) for x, y in moved)


def legibility(clean: np.ndarray, degraded: np.ndarray) -> tuple[float, float]:
    """(correlation, contrast): how much of the clean picture is in the degraded one, where it is worst.

    Both are taken over tiles of 32 pixels with ink in them (of large pictures every second band of tiles), at the
    5th percentile: the correlation of the two pictures, and the standard deviation in grey levels of that part of
    the degraded one that follows the clean one. Blur and low resolution lower the first (strokes run together),
    noise the first, fading the second.
    """
    a, b = (_bands(_gray(picture)).astype(np.float32) for picture in (clean, degraded))
    tiles = max(1, a.shape[1] // _TILE), max(1, a.shape[0] // _TILE)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, tiles, interpolation=cv2.INTER_AREA)

    mean_a, mean_b = mean(a), mean(b)
    spread_a = np.sqrt(np.maximum(mean(a * a) - mean_a**2, 0))
    spread_b = np.sqrt(np.maximum(mean(b * b) - mean_b**2, 1e-6))
    together = mean(a * b) - mean_a * mean_b
    inked = spread_a > _INK
    if not inked.any():
        return 1.0, 255.0
    contrast = together[inked] / spread_a[inked]
    correlation = contrast / spread_b[inked]
    return float(np.percentile(correlation, 5)), float(np.percentile(contrast, 5))


def _paper(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Fibres and spots: the paper darkens by up to 60 grey levels where its grain is deep."""
    texture = _window(_grain(), pixels.shape, stream)
    return cv2.addWeighted(pixels, 1.0, texture, -0.24 * amount, 0)


def _perspective(pixels: np.ndarray, stream: Stream, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """A camera that is not quite above the page: its homography, and the picture. The whole page stays in it."""
    height, width = pixels.shape[:2]
    reach = 0.06 * amount

    def moved(x: float, y: float) -> tuple[float, float]:
        return x + (1 - 2 * x) * stream.uniform(0, reach), y + (1 - 2 * y) * stream.uniform(0, reach)

    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    scale = np.array([width, height], np.float32)
    source = np.array(corners, np.float32) * scale
    target = np.array([moved(*corner) for corner in corners], np.float32) * scale
    edge = np.median(np.concatenate([pixels[0], pixels[-1]]), axis=0)
    ground = stream.uniform(0.3, 1.0) * np.atleast_1d(edge)
    matrix = cv2.getPerspectiveTransform(source, target)
    border = tuple(float(value) for value in ground)
    seen = cv2.warpPerspective(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=border)
    half = np.array(
        [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]
    )  # OpenCV counts from the middle of a pixel
    return half @ matrix @ np.linalg.inv(half), seen


def _shadow(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Uneven light: a soft mask that takes up to two thirds of it away."""
    height, width = pixels.shape[:2]
    coarse = np.array([[stream.uniform(1 - 0.65 * amount, 1) for _ in range(4)] for _ in range(4)])
    mask = cv2.resize((255 * coarse).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    if pixels.ndim == 3:
        mask = cv2.merge([mask] * 3)
    return cv2.multiply(pixels, mask, scale=1 / 255)


def _blur(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Out of focus, or moved along a line."""
    if stream.chance(0.7):
        return cv2.GaussianBlur(pixels, (0, 0), 0.3 + 1.4 * amount)
    length = 2 + round(3 * amount)
    kernel = np.zeros((length, length), np.float32)
    if stream.chance(0.5):
        kernel[length // 2] = 1 / length
    else:
        kernel[:, length // 2] = 1 / length
    return cv2.filter2D(pixels, -1, kernel)


def _resampling(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Stored smaller than it is shown: down, and up again."""
    height, width = pixels.shape[:2]
    share = 1 - 0.65 * amount
    small = max(8, round(width * share)), max(8, round(height * share))
    down = stream.choice((cv2.INTER_AREA, cv2.INTER_LINEAR))
    up = stream.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    return cv2.resize(cv2.resize(pixels, small, interpolation=down), (width, height), interpolation=up)


def _noise(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Sensor noise of up to 35 grey levels (standard deviation)."""
    noise = _window(_bell(), pixels.shape, stream)
    weight = 35 * amount / 37.0  # the tile itself has a deviation of 37
    return cv2.addWeighted(pixels, 1.0, noise, weight, -127.5 * weight)


def _binarisation(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """A fax or a copy: black and white, split by Otsu's threshold or by the light around."""
    if stream.chance(0.5):
        high, wide = (
            pixels.shape[0] // 8,
            pixels.shape[1] // 8,
        )  # a table that the page lies on does not count
        middle = np.ascontiguousarray(pixels[high : pixels.shape[0] - high, wide : pixels.shape[1] - wide])
        level, _ = cv2.threshold(middle, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        level += amount * stream.uniform(-40, 40)
        return cv2.threshold(pixels, level, 255, cv2.THRESH_BINARY)[1]
    window = 2 * round(min(pixels.shape) / 60) + 3
    return cv2.adaptiveThreshold(
        pixels, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, window, stream.uniform(8, 20)
    )


_STEPS: dict[str, Callable[[np.ndarray, Stream, float], np.ndarray]] = {
    "paper": _paper,
    "shadow": _shadow,
    "blur": _blur,
    "resampling": _resampling,
    "noise": _noise,
    "binarisation": _binarisation,
}


def _raw(name: str, layers: int) -> np.ndarray:
    """Uniform bytes [layers, side, side], the same for ever: raw bits of a bit generator, cut into bytes."""
    count = layers * _NOISE_SIDE * _NOISE_SIDE
    words = np.random.PCG64(Stream(name).bits()).random_raw(count // 8).astype("<u8")
    return words.view(np.uint8).reshape(layers, _NOISE_SIDE, _NOISE_SIDE)


@functools.cache
def _bell() -> np.ndarray:
    """A tile [side, side] uint8 of nearly normal noise around 127.5: the mean of four uniform bytes."""
    return _raw("degrade/noise", 4).mean(axis=0).astype(np.uint8)


@functools.cache
def _grain() -> np.ndarray:
    """A tile [side, side] uint8 of paper: fibres, and clouds of three sizes; its edges join."""
    raw = _raw("degrade/paper", 4).astype(np.float32)
    total = np.zeros((_NOISE_SIDE, _NOISE_SIDE), np.float32)
    for layer, (wide, high) in zip(raw, ((9, 1), (1, 7), (31, 31), (121, 121)), strict=True):
        wrapped = cv2.copyMakeBorder(layer, 128, 128, 128, 128, cv2.BORDER_WRAP)
        smooth = cv2.blur(cv2.blur(wrapped, (wide, high)), (wide, high))[128:-128, 128:-128]
        total += (smooth - smooth.mean()) / smooth.std()
    return np.clip(127.5 + 32 * total, 0, 255).astype(np.uint8)


def _window(tile: np.ndarray, shape: tuple[int, ...], stream: Stream) -> np.ndarray:
    """A part of an endless floor of tiles, of the size of a picture."""
    x, y = stream.integer(0, _NOISE_SIDE - 1), stream.integer(0, _NOISE_SIDE - 1)
    repeats = [(shape[0] + y) // _NOISE_SIDE + 1, (shape[1] + x) // _NOISE_SIDE + 1]
    floor = np.tile(tile, repeats) if max(repeats) > 1 else tile
    window = floor[y : y + shape[0], x : x + shape[1]]
    return cv2.merge([window] * 3) if len(shape) == 3 else np.ascontiguousarray(window)


def _bands(pixels: np.ndarray) -> np.ndarray:
    """Whole tiles of every second band of a large picture, which is enough to judge it; a small one as it is."""
    height, width = pixels.shape
    if min(height, width) < 4 * _TILE:
        return pixels
    whole = pixels[: height // (2 * _TILE) * 2 * _TILE, : width // _TILE * _TILE]
    return whole.reshape(-1, 2, _TILE, whole.shape[1])[:, 0].reshape(-1, whole.shape[1])


def _gray(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels


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
