"""What happens to a picture: each step takes gray [H, W] or RGB [H, W, 3] uint8 and an amount from 0 to 1."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np

from data_engine.random_stream import Stream

_NOISE_SIDE = 1024


def _paper(pixels: np.ndarray, stream: Stream, amount: float) -> np.ndarray:
    """Fibres and spots: the paper darkens by up to 60 grey levels where its grain is deep."""
    texture = _window(_grain(), pixels.shape, stream)
    return cv2.addWeighted(pixels, 1.0, texture, -0.24 * amount, 0)


def perspective(pixels: np.ndarray, stream: Stream, amount: float) -> tuple[np.ndarray, np.ndarray]:
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


STEPS: dict[str, Callable[[np.ndarray, Stream, float], np.ndarray]] = {
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
