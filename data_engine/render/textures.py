"""Grounds to write on where no photograph is given: walls, boards, cloth, painted shapes; all drawn from a stream.

Every family fills a gray map [H, W], which a ramp of random colours paints; then comes grain, and light that falls
off to one side. The noise is made of the raw bits of a bit generator, which are the same under any version of numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from data_engine.random_stream import Stream
from data_engine.render.graphics import color_surface, skia

cv2.setNumThreads(1)

Color = tuple[int, int, int]
"""RGB, 0 to 255 each."""
_LUMA = (0.299, 0.587, 0.114)
_COARSEST = 3  # cells of the first octave along the shorter side


def luma(color: Color) -> float:
    """How light a colour is, 0 to 255: what OpenCV's conversion to gray gives."""
    return sum(weight * value for weight, value in zip(_LUMA, color, strict=True))


def color_of(stream: Stream, light: float, saturation: float) -> Color:
    """A random colour whose `luma` is `light` (0 to 255), gray for a saturation of 0, as strong as can be for 1."""
    drawn = [stream.uniform(0, 255) for _ in range(3)]
    gray = sum(weight * value for weight, value in zip(_LUMA, drawn, strict=True))
    mixed = [gray + saturation * (value - gray) for value in drawn]
    if gray > light:
        mixed = [value * light / gray for value in mixed]
    else:
        share = (light - gray) / max(1e-9, 255 - gray)
        mixed = [value + (255 - value) * share for value in mixed]
    red, green, blue = (round(min(255.0, max(0.0, value))) for value in mixed)
    return red, green, blue


def texture(family: str, stream: Stream, width: int, height: int) -> np.ndarray:
    """A picture [H, W, 3] RGB uint8 of a family of `scene_text_options.TEXTURES`."""
    picture = _FAMILIES[family](stream, width, height)
    grain = stream.uniform(0.0, 0.12)
    noise = (
        cv2.blur(_raw(stream, height, width), (3, 3)) if stream.chance(0.5) else _raw(stream, height, width)
    )
    picture = cv2.addWeighted(picture, 1.0, cv2.merge([noise] * 3), grain, -127.5 * grain)
    if stream.chance(0.7):
        light = cv2.merge([_light(stream, width, height)] * 3)
        picture = cv2.multiply(picture, light, scale=1 / 255)
    return picture


def _raw(stream: Stream, height: int, width: int) -> np.ndarray:
    """Uniform bytes [height, width]."""
    count = height * width
    words = np.random.PCG64(stream.bits()).random_raw(-(-count // 8)).astype("<u8")
    return words.view(np.uint8)[:count].reshape(height, width)


def _light(stream: Stream, width: int, height: int) -> np.ndarray:
    """How much light arrives [H, W] uint8: a lamp somewhere, the far corner up to half as bright."""
    darkest = stream.uniform(0.5, 0.95)
    x, y = stream.uniform(-0.2, 1.2), stream.uniform(-0.2, 1.2)
    across, down = np.meshgrid(np.linspace(0, 1, 9) - x, np.linspace(0, 1, 9) - y)
    distance = np.hypot(across, down)
    distance /= distance.max()
    coarse = (255 * (1 - (1 - darkest) * distance)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def _smooth(stream: Stream, width: int, height: int, columns: int, rows: int) -> np.ndarray:
    """Noise [H, W] float32, 0 to 255, that changes over width / columns and height / rows pixels.

    Curved at a quarter of the size, and from there on straight: no eye tells, and it takes a fifth of the time.
    """
    coarse = _raw(stream, rows + 1, columns + 1).astype(np.float32)
    quarter = (-(-width // 4), -(-height // 4))
    curved = cv2.resize(coarse, quarter, interpolation=cv2.INTER_CUBIC)
    return cv2.resize(curved, (width, height), interpolation=cv2.INTER_LINEAR)


def _octaves(stream: Stream, width: int, height: int, roughness: float) -> np.ndarray:
    """Clouds [H, W] uint8: noise of ever finer cells, each octave `roughness` times as strong as the one before."""
    quarter = (-(-width // 4), -(-height // 4))
    side = min(quarter)
    total, weight, cells = np.zeros(quarter[::-1], np.float32), 1.0, _COARSEST
    while cells <= side:
        shape = [max(1, round(cells * length / side)) for length in quarter]
        layer = _raw(stream, shape[1] + 1, shape[0] + 1).astype(np.float32)
        total = cv2.scaleAdd(cv2.resize(layer, quarter, interpolation=cv2.INTER_CUBIC), weight, total)
        weight, cells = weight * roughness, cells * 3
    return cv2.resize(_stretched(total), (width, height), interpolation=cv2.INTER_LINEAR)


def _stretched(values: np.ndarray) -> np.ndarray:
    """As uint8 from 0 to 255."""
    low, high, *_ = cv2.minMaxLoc(values)
    scale = 255 / max(1e-6, high - low)
    return cv2.convertScaleAbs(values, alpha=scale, beta=-low * scale)


def _ramp(stream: Stream, stops: int, spread: float) -> np.ndarray:
    """Colours [256, 1, 3] uint8 that run through `stops` random ones, at most `spread` grey levels apart."""
    middle = stream.uniform(0.5 * spread, 255 - 0.5 * spread)
    saturation = stream.uniform(0.0, 0.8)
    colors = [color_of(stream, middle + spread * stream.uniform(-0.5, 0.5), saturation) for _ in range(stops)]
    places = np.linspace(0, 255, stops)
    channels = [np.interp(np.arange(256), places, [color[c] for color in colors]) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8).reshape(256, 1, 3)


def _painted(levels: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    return cv2.applyColorMap(levels, ramp)


def _slope(stream: Stream, width: int, height: int) -> np.ndarray:
    """[H, W] float32: how far a pixel lies along a random direction, in pixels."""
    angle = stream.uniform(0, math.pi)
    across = np.arange(width, dtype=np.float32) * np.float32(math.cos(angle))
    down = np.arange(height, dtype=np.float32) * np.float32(math.sin(angle))
    return down[:, None] + across[None, :]


def _plain(stream: Stream, width: int, height: int) -> np.ndarray:
    color = color_of(stream, stream.uniform(15, 245), stream.uniform(0, 0.9))
    return cv2.merge([np.full((height, width), value, np.uint8) for value in color])


def _gradient(stream: Stream, width: int, height: int) -> np.ndarray:
    slope = _slope(stream, width, height)
    if stream.chance(0.3):  # around a point instead of along a line
        x, y = stream.uniform(0, width), stream.uniform(0, height)
        across, down = np.arange(width, dtype=np.float32) - x, np.arange(height, dtype=np.float32) - y
        slope = np.sqrt(np.square(across)[None, :] + np.square(down)[:, None])
    return _painted(_stretched(slope), _ramp(stream, stream.integer(2, 4), stream.uniform(30, 170)))


def _clouds(stream: Stream, width: int, height: int) -> np.ndarray:
    levels = _octaves(stream, width, height, stream.uniform(0.3, 0.8))
    return _painted(levels, _ramp(stream, stream.integer(2, 4), stream.uniform(20, 150)))


def _stripes(stream: Stream, width: int, height: int) -> np.ndarray:
    """Soft or hard stripes, straight or wavy: 256 levels are one period of a ramp that ends as it begins."""
    period = stream.uniform(0.02, 0.2) * min(width, height)
    phase = _slope(stream, width, height) * np.float32(256 / period)
    if stream.chance(0.4):
        phase += _smooth(stream, width, height, 4, 4) * np.float32(stream.uniform(0.5, 3))
    ramp = _ramp(stream, 2, stream.uniform(15, 130))
    share = stream.uniform(0.2, 0.8)
    edge = stream.choice((2.0, 30.0, 120.0))
    turns = np.abs(np.arange(256) - 127.5)  # there and back
    levels = np.clip(127.5 + (turns - 127.5 * share) * 127.5 / edge, 0, 255).astype(np.uint8)
    return _painted(phase.astype(np.int32).astype(np.uint8), np.ascontiguousarray(ramp[levels]))


def _bricks(stream: Stream, width: int, height: int) -> np.ndarray:
    """Bricks or tiles: each has a tone of its own, and mortar runs between them."""
    side = min(width, height)
    high = stream.uniform(0.05, 0.2) * side
    wide = high * stream.uniform(1.0, 3.2)
    joint = max(1, round(high * stream.uniform(0.03, 0.12)))
    shift = 0.5 if stream.chance(0.6) else 0.0
    mortar, variation = stream.integer(0, 255), stream.integer(5, 60)
    levels = np.full((height, width), mortar, np.uint8)
    body = 60 if mortar > 127 else 195
    for row in range(math.ceil(height / high)):
        start = -wide * shift * (row % 2)
        top, bottom = round(row * high), round((row + 1) * high) - joint
        for column in range(math.ceil((width - start) / wide)):
            left, right = round(start + column * wide), round(start + (column + 1) * wide) - joint
            tone = body + stream.integer(-variation, variation)
            levels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = tone
    rough = _octaves(stream, width, height, 0.8)
    worn = cv2.addWeighted(levels, 1.0, rough, 0.25, -32)
    return _painted(worn, _ramp(stream, 3, stream.uniform(20, 130)))


def _wood(stream: Stream, width: int, height: int) -> np.ndarray:
    """Long fibres and rings: stretched noise, many times around a ramp that ends as it begins."""
    along, rings = stream.integer(1, 3), stream.uniform(2, 7)
    rows = stream.integer(4, 10)
    upright = stream.chance(0.5)
    shape = (height, width) if upright else (width, height)
    phase = _smooth(stream, shape[0], shape[1], along, rows) * np.float32(rings)
    fibres = cv2.resize(_raw(stream, shape[1], 6), shape, interpolation=cv2.INTER_LINEAR)
    levels = np.abs((phase.astype(np.int32) & 511) - 255).clip(0, 255).astype(np.uint8)
    levels = cv2.addWeighted(levels, 0.7, fibres, 0.3, 0)
    if upright:
        levels = cv2.transpose(levels)
    return _painted(levels, _ramp(stream, 3, stream.uniform(20, 110)))


def _shapes(stream: Stream, width: int, height: int) -> np.ndarray:
    """A poster: rectangles, circles and triangles, some of them see-through."""
    pixels, surface = color_surface(width, height)
    canvas = surface.getCanvas()
    low = stream.uniform(0, 100)
    high = low + stream.uniform(20, 150)

    def color() -> int:
        red, green, blue = color_of(stream, stream.uniform(low, high), stream.uniform(0, 1))
        return int(skia.ColorSetRGB(red, green, blue))

    canvas.clear(color())
    for _ in range(stream.integer(3, 14)):
        x, y = stream.uniform(0, width), stream.uniform(0, height)
        reach = stream.uniform(0.05, 0.35) * min(width, height)
        paint = skia.Paint(AntiAlias=True, Color=color())
        paint.setAlpha(stream.integer(90, 255))
        form = stream.integer(0, 2)
        if form == 0:
            canvas.drawCircle(x, y, reach, paint)
        elif form == 1:
            wide, high_side = reach * stream.uniform(0.5, 2), reach * stream.uniform(0.5, 2)
            canvas.drawRect(skia.Rect.MakeXYWH(x - wide / 2, y - high_side / 2, wide, high_side), paint)
        else:
            corners = [
                skia.Point(x + stream.uniform(-reach, reach), y + stream.uniform(-reach, reach))
                for _ in range(3)
            ]
            canvas.drawPath(skia.Path.Polygon(corners, True), paint)
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)


_FAMILIES: dict[str, Callable[[Stream, int, int], np.ndarray]] = {
    "plain": _plain,
    "gradient": _gradient,
    "clouds": _clouds,
    "stripes": _stripes,
    "bricks": _bricks,
    "wood": _wood,
    "shapes": _shapes,
}
