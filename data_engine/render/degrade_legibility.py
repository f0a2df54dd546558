"""Whether a degraded picture can still be read: how much of the clean picture is in it where it is worst.

Two measures, each (correlation, contrast): `legibility` looks wherever there is ink, `quad_legibility` at given pieces
of text alone. Ink lies in letters and lines that are far smaller than the picture, so neither is an average over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

LEAST_CORRELATION = 0.55
LEAST_CONTRAST = 9.0
"""Standard deviation in grey levels; black text on white paper has 60 to 90."""
_TILE = 32  # pixels
_INK = 10.0  # grey levels: a tile that varies less has nothing to read
_ENOUGH_TILES = 20  # fewer with ink have no 5th percentile worth the name
_WIDEST_LETTER = 1.5  # of its height
_ALONE = 0.85
_VISIBLE = 4.0  # grey levels
_LEAST_SIDE = 4 * _TILE  # pixels: smaller pictures are looked at as a whole

Quad = tuple[tuple[float, float], ...]
"""Four corners (x, y) in pixels."""


def legibility(clean: np.ndarray, degraded: np.ndarray) -> tuple[float, float]:
    """(correlation, contrast): how much of the clean picture is in the degraded one, where it is worst.

    Both are taken over tiles of 32 pixels with ink in them, at the 5th percentile: the correlation of the two
    pictures, and the standard deviation in grey levels of that part of the degraded one that follows the clean one.
    Blur and low resolution lower the first (strokes run together), noise the first, fading the second. Of a large
    picture every second band of tiles is enough, unless there is so little ink that it may all lie in the others.
    """
    pair = _gray(clean), _gray(degraded)
    height, width = pair[0].shape
    if min(height, width) >= _LEAST_SIDE:
        contrast, correlation = _inked_tiles(*(_every_second_band(picture) for picture in pair))
        if len(contrast) >= _ENOUGH_TILES:
            return float(np.percentile(correlation, 5)), float(np.percentile(contrast, 5))
    contrast, correlation = _inked_tiles(*pair)
    if not len(contrast):
        return 1.0, 255.0
    return float(np.percentile(correlation, 5)), float(np.percentile(contrast, 5))


def _inked_tiles(clean: np.ndarray, degraded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(contrast, correlation) of every tile of two gray pictures that has ink in the clean one."""
    a, b = clean.astype(np.float32), degraded.astype(np.float32)
    tiles = max(1, a.shape[1] // _TILE), max(1, a.shape[0] // _TILE)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, tiles, interpolation=cv2.INTER_AREA)

    mean_a, mean_b = mean(a), mean(b)
    spread_a = np.sqrt(np.maximum(mean(a * a) - mean_a**2, 0))
    inked = spread_a > _INK
    spread_b = np.sqrt(np.maximum(mean(b * b) - mean_b**2, 1e-6))
    contrast = (mean(a * b) - mean_a * mean_b)[inked] / spread_a[inked]
    return contrast, contrast / spread_b[inked]


def _every_second_band(pixels: np.ndarray) -> np.ndarray:
    """Whole tiles of every second band of a picture."""
    height, width = pixels.shape
    whole = pixels[: height // (2 * _TILE) * 2 * _TILE, : width // _TILE * _TILE]
    return whole.reshape(-1, 2, _TILE, whole.shape[1])[:, 0].reshape(-1, whole.shape[1])


def quad_legibility(clean: np.ndarray, degraded: np.ndarray, quads: Sequence[Quad]) -> tuple[float, float]:
    """(correlation, contrast) as `legibility` has them, over the lines of text alone; those of the worst line.

    The correlation is that of the strokes: what varies over more than a third of a line's height is taken out first,
    or a line that is smeared to a bar would still be where it was. That of a single letter counts by the share of its
    ink that is left: an E that lost two of its arms is much like itself, and is an L. And it counts for less than that
    of a word, which can be read where one of its letters cannot.
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
        correlation, _ = _agreement(strokes, mask)
        if math.dist(quad[0], quad[1]) < _WIDEST_LETTER * height:
            correlation *= _ALONE * _ink_left(*strokes)
        worst_correlation = min(worst_correlation, correlation)
        worst_contrast = min(worst_contrast, _agreement(crops, mask)[1])
    return worst_correlation, worst_contrast


def _ink_left(clean: np.ndarray, degraded: np.ndarray) -> float:
    """The share of the clean strokes that still differ from what is around them, in the same sense."""
    size = np.abs(clean)
    ink = size > 0.5 * size.max()
    left = degraded[ink] * np.sign(clean[ink]) > _VISIBLE
    return float(left.mean()) if left.size else 1.0


def _agreement(pair: Sequence[np.ndarray], mask: np.ndarray) -> tuple[float, float]:
    """(correlation, contrast) of two gray pictures [H, W] under a mask."""
    (mean_a, spread_a), (mean_b, spread_b) = (
        (float(mean[0, 0]), max(1e-3, float(spread[0, 0])))
        for mean, spread in (cv2.meanStdDev(picture, mask=mask) for picture in pair)
    )
    together = cv2.mean(cv2.multiply(pair[0], pair[1], dtype=cv2.CV_32F), mask)[0] - mean_a * mean_b
    return together / spread_a / spread_b, together / spread_a


def _gray(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
