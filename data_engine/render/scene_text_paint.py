"""A sign painted into a picture: plate, shadow, outline, letters; its quadrilaterals and contrast read off the pixels.

Every line is first drawn as a mask, in the perspective it is seen in, by skia's anti-aliasing of the letters'
outlines; all that follows is mixing of colours under masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from data_engine.random_stream import Stream
from data_engine.render.graphics import gray_surface, skia
from data_engine.render.scene_text_planes import Box, Quad, bounds, least_stretch, moved, quad_of
from data_engine.render.scene_text_signs import Line, Sign
from data_engine.render.textures import Color, color_of, luma
from data_engine.scene_text_options import SceneTextOptions

cv2.setNumThreads(1)

VISIBLE = 13
"""Of 255: where a mask covers less, nothing is seen of the letters."""
_CORE = 0.75  # of the largest value of a mask: the middle of the strokes
_ROOM = 1.2  # an ink is chosen with this much more contrast than it must have: blur takes some away
_LEAST_GROUND = 12  # pixels
_CELL = 0.6  # font sizes: no letter may vanish where the ground is bright, or dark, for once


@dataclass(frozen=True)
class SignStyle:
    """How a sign is painted. Lengths in pixels of the picture."""

    ink: Color
    opacity: float
    plate: Color | None = None
    border: Color | None = None
    corner: float = 0.0
    """Radius of the corners of the plate, in the plane of the sign."""
    outline: Color | None = None
    outline_pixels: int = 0
    shadow: tuple[int, int, float] | None = None
    """(right, down, strength)."""
    blur: float = 0.0
    """Standard deviation."""


@dataclass(frozen=True)
class PlacedSign:
    """A sign with the homography that takes it into the picture."""

    sign: Sign
    matrix: np.ndarray
    style: SignStyle

    @cached_property
    def quad(self) -> Quad:
        """All of the sign; nothing of another one is in here."""
        return quad_of(self.matrix, self.sign.box)


@dataclass(frozen=True)
class PaintedLine:
    """A line as it stands in the picture."""

    text: str
    quad: Quad
    """Holds all of its ink, outline included, and is as small as the line's own plane allows."""
    contrast: float
    """Grey levels between the ink and the ground at the worst place; below 0 when the ground has the ink's level."""


def grey_span(gray: np.ndarray, quad: Quad) -> tuple[float, float]:
    """The darkest and the lightest level of a gray picture [H, W] in a quadrilateral, 3 % of either left out."""
    left, top, right, bottom = _whole(bounds(quad), gray.shape)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(mask, np.round(np.array(quad) - (left, top)).astype(np.int32), 255)
    return _percentiles(gray[top:bottom, left:right], mask, 0.03)


def _percentiles(gray: np.ndarray, mask: np.ndarray, share: float) -> tuple[float, float]:
    """The levels below and above which there is a share of the pixels of a mask."""
    counts = np.cumsum(cv2.calcHist([gray], [0], mask, [256], [0, 256]).ravel())
    low, high = np.searchsorted(counts, (share * counts[-1], (1 - share) * counts[-1]))
    return float(low), float(high)


def choose_style(
    stream: Stream,
    options: SceneTextOptions,
    ground: tuple[float, float],
    em: float,
    pixels: float,
    plated: bool,
) -> SignStyle:
    """A random style whose ink has contrast with the ground, whose `grey_span` is given.

    `em` is the font size in the picture and `pixels` in the plane. There is a plate where `plated` asks for it, where
    chance does, and where no ink would have contrast.
    """
    distance = _ROOM * options.contrast
    plate = border = None
    if plated or stream.chance(options.plates) or not _has_room(ground, distance):
        plate = color_of(stream, stream.uniform(0, 255), stream.uniform(0, 1))
        if not _has_room((luma(plate), luma(plate)), distance):
            plate = color_of(stream, 250.0, 0.2)
        ground = (luma(plate), luma(plate))
    ink = _ink(stream, ground, distance)
    if plate is not None and stream.chance(0.4):
        border = ink
    outline, outline_pixels = None, 0
    if stream.chance(options.outlines):
        darker, lighter = max(0.0, luma(ink) - distance), min(255.0, luma(ink) + distance)
        level = stream.uniform(0, darker) if luma(ink) >= 128 else stream.uniform(lighter, 255)
        outline, outline_pixels = color_of(stream, level, stream.uniform(0, 1)), max(1, round(0.05 * em))
    shadow = None
    if stream.chance(options.shadows):
        reach = max(1, round(0.07 * em))
        shadow = (stream.integer(-reach, reach), reach, stream.uniform(0.3, 0.7))
    return SignStyle(
        ink=ink,
        opacity=stream.uniform(0.88, 1.0),
        plate=plate,
        border=border,
        corner=stream.choice((0.0, 0.2, 0.45)) * pixels,
        outline=outline,
        outline_pixels=outline_pixels,
        shadow=shadow,
        blur=stream.uniform(0.3, max(0.3, min(1.2, 0.03 * em))) if stream.chance(options.blur) else 0.0,
    )


def _has_room(ground: tuple[float, float], distance: float) -> bool:
    return ground[0] >= distance or ground[1] <= 255 - distance


def _ink(stream: Stream, ground: tuple[float, float], distance: float) -> Color:
    """A colour that is darker or lighter than all of the ground, by `distance` grey levels."""
    darker, lighter = ground[0] - distance, 255 - (ground[1] + distance)
    saturation = stream.choice((0.0, 0.4, 1.0))
    if stream.uniform(0, max(0.0, darker) + max(0.0, lighter)) < darker:
        return color_of(stream, stream.uniform(0, darker), saturation)
    return color_of(stream, 255 - stream.uniform(0, max(0.0, lighter)), saturation)


def paint_sign(picture: np.ndarray, canvas: skia.Canvas, placed: PlacedSign) -> list[PaintedLine]:
    """Paint a sign into a picture [H, W, 4] RGBA uint8, on which `canvas` draws, and tell its lines."""
    if placed.style.plate is not None:
        _paint_plate(canvas, placed)
    return [_paint_line(picture, placed, line) for line in placed.sign.lines]


def _paint_plate(canvas: skia.Canvas, placed: PlacedSign) -> None:
    sign, style = placed.sign, placed.style
    inset = 0.08 * sign.pixels
    left, top, right, bottom = sign.box
    shape = skia.RRect.MakeRectXY(
        skia.Rect(left + inset, top + inset, right - inset, bottom - inset), style.corner, style.corner
    )
    canvas.save()
    canvas.concat(skia.Matrix(placed.matrix.astype(np.float32)))
    assert style.plate is not None
    canvas.drawRRect(shape, skia.Paint(AntiAlias=True, Color=skia.ColorSetRGB(*style.plate)))
    if style.border is not None:
        line = skia.Paint(
            AntiAlias=True, Color=skia.ColorSetRGB(*style.border), Style=skia.Paint.kStroke_Style
        )
        line.setStrokeWidth(0.07 * sign.pixels)
        shape.inset(inset, inset)
        canvas.drawRRect(shape, line)
    canvas.restore()


def _paint_line(picture: np.ndarray, placed: PlacedSign, line: Line) -> PaintedLine:
    style = placed.style
    left, top, letters = _letters(picture.shape, placed, line)
    region = picture[top : top + letters.shape[0], left : left + letters.shape[1]]
    if style.blur:
        letters = cv2.GaussianBlur(letters, (0, 0), style.blur)
    ink = letters
    if style.outline is not None:
        side = 2 * style.outline_pixels + 1
        ink = cv2.dilate(letters, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    if style.shadow is not None:
        right_by, down_by, strength = style.shadow
        shift = np.array([[1, 0, right_by], [0, 1, down_by]], np.float32)
        shade = cv2.warpAffine(ink, shift, letters.shape[::-1], flags=cv2.INTER_NEAREST)
        _mix(region, (0, 0, 0), cv2.blur(shade, (3, 3)), strength)
    if style.outline is not None:
        _mix(region, style.outline, ink, 1.0)
    before = cv2.cvtColor(region, cv2.COLOR_RGBA2GRAY)
    _mix(region, style.ink, letters, style.opacity)
    after = cv2.cvtColor(region, cv2.COLOR_RGBA2GRAY)
    quad = _tight_quad(ink, placed.matrix, left, top)
    within = tuple((x - left, y - top) for x, y in quad)
    cell = max(4, round(_CELL * placed.sign.pixels * least_stretch(placed.matrix, placed.sign.box)))
    return PaintedLine(line.text, quad, _contrast(before, after, letters, ink, within, cell))


def _letters(shape: tuple[int, ...], placed: PlacedSign, line: Line) -> tuple[int, int, np.ndarray]:
    """(left, top, mask [H, W] uint8): how much of every pixel the letters cover, with room for all around them."""
    box = _line_box(shape, placed, line)
    mask, surface = gray_surface(box[2] - box[0], box[3] - box[1])
    mask.fill(0)
    canvas = surface.getCanvas()
    canvas.translate(-box[0], -box[1])
    canvas.concat(skia.Matrix(placed.matrix.astype(np.float32)))
    line.paragraph.paint(canvas, line.x, line.y)
    x, y, wide, high = cv2.boundingRect(mask)
    style = placed.style
    room = (
        2
        + style.outline_pixels
        + math.ceil(3 * style.blur)
        + (max(map(abs, style.shadow[:2])) if style.shadow else 0)
    )
    left, top = max(0, x - room), max(0, y - room)
    return (
        box[0] + left,
        box[1] + top,
        np.ascontiguousarray(mask[top : y + high + room, left : x + wide + room]),
    )


def _line_box(shape: tuple[int, ...], placed: PlacedSign, line: Line) -> tuple[int, int, int, int]:
    """Whole pixels around a line with all that may surround its letters, inside of the picture."""
    left, top, right, bottom = line.box
    margin = 0.3 * placed.sign.pixels
    grown = (left - margin, top - margin, right + margin, bottom + margin)
    return _whole(bounds(quad_of(placed.matrix, grown)), shape)


def _whole(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    height, width = shape[:2]
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    return left, top, min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))


def _mix(region: np.ndarray, color: Color, mask: np.ndarray, opacity: float) -> None:
    """Lay a colour over a region [H, W, 4] in place, where and as much as a mask [H, W] says."""
    over = cv2.merge([cv2.convertScaleAbs(mask, alpha=opacity)] * 4)
    layer = cv2.merge([cv2.convertScaleAbs(mask, alpha=opacity * level / 255) for level in (*color, 255)])
    kept = cv2.multiply(region, cv2.bitwise_not(over), scale=1 / 255)
    np.copyto(region, cv2.add(kept, layer))


def _tight_quad(ink: np.ndarray, matrix: np.ndarray, left: int, top: int) -> Quad:
    """The smallest box in the line's plane that holds all of its visible pixels, seen in the picture.

    A homography keeps straight lines straight, so only the first and the last pixel of every row can lie outermost.
    """
    visible = ink >= VISIBLE
    rows = np.flatnonzero(visible.any(axis=1))
    if not len(rows):
        return quad_of(matrix, (0.0, 0.0, 0.0, 0.0))
    first = visible[rows].argmax(axis=1)
    last = visible.shape[1] - visible[rows, ::-1].argmax(axis=1)  # the edge behind the last one
    across = np.concatenate([first, first, last, last]) + float(left)
    down = np.concatenate([rows, rows + 1, rows, rows + 1]) + float(top)
    flat = moved(np.linalg.inv(matrix), np.stack([across, down], axis=1))
    (low_x, low_y), (high_x, high_y) = flat.min(axis=0), flat.max(axis=0)
    return quad_of(matrix, (float(low_x), float(low_y), float(high_x), float(high_y)))


def _contrast(
    before: np.ndarray, after: np.ndarray, letters: np.ndarray, ink: np.ndarray, quad: Quad, cell: int
) -> float:
    """Between the middle of the strokes and the ground, in grey levels; `before` and `after` are gray [H, W].

    The smaller of two: against what surrounds the letters (the outline where there is one), and against what lay under
    the strokes, in the worst of cells of `cell` pixels. The strokes must be lighter in all cells, or darker in all.
    """
    strongest = int(letters.max())
    if strongest < 2 * VISIBLE:
        return -255.0
    core = letters >= _CORE * strongest
    around = np.zeros_like(letters)
    cv2.fillConvexPoly(around, np.round(np.array(quad)).astype(np.int32), 1)
    if ink is letters:
        around[letters >= VISIBLE] = 0
    else:
        around = ((ink >= 200) & (letters < 60)).astype(np.uint8)
    if cv2.countNonZero(around) < _LEAST_GROUND:
        return -255.0
    level = cv2.mean(after, core.astype(np.uint8))[0]
    low, high = _percentiles(after, around, 0.1)
    sign = 1.0 if level > (low + high) / 2 else -1.0
    rows, columns = np.nonzero(core)
    cells = rows // cell * (letters.shape[1] // cell + 1) + columns // cell
    change = after[rows, columns].astype(np.float64) - before[rows, columns]
    counts = np.bincount(cells)
    means = np.bincount(cells, change)[counts > 0] / counts[counts > 0]
    return float(min(low - level if sign < 0 else level - high, (sign * means).min()))
