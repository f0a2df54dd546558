"""Replays with skia what `canvas_recorder.js` wrote down: the other half of ECharts without a browser.

The list of operations is described at the head of the recorder. Fonts are found by the family names of
`data_engine.fonts`; a character that the font lacks is an error, never an empty box.
"""

from __future__ import annotations

import base64
import functools
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageColor

from data_engine.fonts import FONT_FAMILIES, font_file
from data_engine.render.graphics import color_surface, font, missing_characters, skia, typeface

_CAPS = {"butt": skia.Paint.kButt_Cap, "round": skia.Paint.kRound_Cap, "square": skia.Paint.kSquare_Cap}
_JOINS = {
    "miter": skia.Paint.kMiter_Join,
    "round": skia.Paint.kRound_Join,
    "bevel": skia.Paint.kBevel_Join,
}
_BLENDS = {
    "source-over": skia.BlendMode.kSrcOver,
    "source-atop": skia.BlendMode.kSrcATop,
    "destination-out": skia.BlendMode.kDstOut,
    "destination-over": skia.BlendMode.kDstOver,
    "lighter": skia.BlendMode.kPlus,
    "multiply": skia.BlendMode.kMultiply,
    "screen": skia.BlendMode.kScreen,
    "darken": skia.BlendMode.kDarken,
    "lighten": skia.BlendMode.kLighten,
    "overlay": skia.BlendMode.kOverlay,
}
_BASELINES: dict[str, Callable[[float], float]] = {
    "alphabetic": lambda ascent: 0.0,
    "top": lambda ascent: ascent,
    "middle": lambda ascent: ascent - 0.5,
    "bottom": lambda ascent: ascent - 1.0,
}
"""Where the baseline lies below the point of a text, in ems, when the em square rises `ascent` above it."""
_OS2 = int.from_bytes(b"OS/2", "big")
_SMOOTH = skia.SamplingOptions(skia.FilterMode.kLinear)


@dataclass(frozen=True)
class DrawnText:
    """A text as it came to lie on the picture."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    upright: bool
    """False when it is turned; the box is then larger than the text."""


def play(operations: list[list[Any]], width: int, height: int) -> tuple[np.ndarray, list[DrawnText]]:
    """The picture [H, W, 4] uint8 of a recorded chart, and the texts in it."""
    pixels, surface = color_surface(width, height)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorWHITE)
    player = _Player(canvas)
    player.play(operations)
    return pixels, player.texts


class _Player:
    """Carries out operations on one skia canvas."""

    def __init__(self, canvas: skia.Canvas) -> None:
        self._canvas = canvas
        self.texts: list[DrawnText] = []

    def play(self, operations: list[list[Any]]) -> None:
        canvas = self._canvas
        # A recorded matrix is absolute; on a nested canvas it is relative to where that canvas starts.
        base = canvas.getTotalMatrix()
        for operation in operations:
            code = operation[0]
            if code == "f":
                _, path, paint, effect = operation
                self._draw_path(path, _brush(paint), effect)
            elif code == "k":
                _, path, paint, line, effect = operation
                self._draw_path(path, _with_line(_brush(paint), line), effect)
            elif code == "t":
                self._text(operation)
            elif code == "m":
                canvas.setMatrix(skia.Matrix.Concat(base, _matrix(operation[1:])))
            elif code == "s":
                canvas.save()
            elif code == "r":
                canvas.restore()
            elif code == "c":
                canvas.clipPath(outline(operation[1]), skia.ClipOp.kIntersect, True)
            elif code == "i":
                self._image(operation)
            else:
                raise ValueError(f"a recording holds the operation {code!r}, which is not known here.")

    def _draw_path(self, path: list[float], brush: skia.Paint, effect: list[Any] | None) -> None:
        shape = outline(path)
        if effect is None:
            self._canvas.drawPath(shape, brush)
            return
        bounds = shape.computeTightBounds()
        reach = brush.getStrokeWidth() * max(1.0, brush.getStrokeMiter())
        bounds.outset(reach, reach)
        self._paint(effect, lambda brush: self._canvas.drawPath(shape, brush), brush, bounds)

    def _text(self, operation: list[Any]) -> None:
        _, text, x, y, css, align, baseline, paint, line, effect = operation
        face = css_font(css)
        _check_drawable(text, css)
        ink = skia.Rect()
        width = face.measureText(text, skia.TextEncoding.kUTF8, ink)
        if align in ("right", "end"):
            x -= width
        elif align == "center":
            x -= width / 2
        y += _BASELINES[baseline](_em_ascent(css)) * face.getSize()
        brush = _brush(paint)
        if line is not None:
            brush = _with_line(brush, line)
        ink.offset(x, y)
        if effect is None:
            self._canvas.drawString(text, x, y, face, brush)
        else:
            bounds = ink.makeOutset(brush.getStrokeWidth() + 1, brush.getStrokeWidth() + 1)
            self._paint(effect, lambda brush: self._canvas.drawString(text, x, y, face, brush), brush, bounds)
        if line is None and text.strip():
            matrix = self._canvas.getTotalMatrix()
            box = matrix.mapRect(ink)
            upright = abs(matrix.getSkewX()) < 1e-6 and abs(matrix.getSkewY()) < 1e-6
            self.texts.append(DrawnText(text, box.left(), box.top(), box.right(), box.bottom(), upright))

    def _image(self, operation: list[Any]) -> None:
        image, *numbers, alpha, effect = operation[1:]
        source = skia.Rect.MakeXYWH(*numbers[:4])
        target = skia.Rect.MakeXYWH(*numbers[4:])
        picture = _picture_of(image)
        brush = skia.Paint(AntiAlias=True, Alphaf=alpha)

        def draw(brush: skia.Paint) -> None:
            self._canvas.drawImageRect(picture, source, target, _SMOOTH, brush)

        self._paint(effect, draw, brush, target, has_own_colors=True)

    def _paint(
        self,
        effect: list[Any] | None,
        draw: Callable[[skia.Paint], None],
        brush: skia.Paint,
        bounds: skia.Rect,
        has_own_colors: bool = False,
    ) -> None:
        """Draw what lies in `bounds`, with shadow and blend mode where the effect names them.

        As on a canvas, offset and blur of a shadow are in pixels whatever the matrix, and its sigma is half
        of its blur.
        """
        if effect is None:
            draw(brush)
            return
        blur, dx, dy, color, operation = effect
        if operation not in _BLENDS:
            raise ValueError(f"the composite operation {operation!r} is not known here.")
        shadow = css_color(color)
        canvas = self._canvas
        matrix = canvas.getTotalMatrix()
        if operation == "source-over" and brush.getShader() is None and not has_own_colors:
            # One colour: its shadow is its outline, blurred, which is far cheaper than a layer.
            under = skia.Paint(brush)
            under.setColor(skia.ColorSetA(shadow, round(skia.ColorGetA(shadow) * brush.getAlphaf())))
            if blur:
                under.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur / 2, False))
            canvas.setMatrix(skia.Matrix.Concat(skia.Matrix.Translate(dx, dy), matrix))
            draw(under)
            canvas.setMatrix(matrix)
            draw(brush)
            return
        layer = skia.Paint(BlendMode=_BLENDS[operation])
        if skia.ColorGetA(shadow):
            layer.setImageFilter(skia.ImageFilters.DropShadow(dx, dy, blur / 2, blur / 2, shadow, None))
        area = matrix.mapRect(bounds)  # a layer of the whole picture would cost twenty times as much
        room = 1.5 * blur + max(abs(dx), abs(dy)) + 2
        canvas.save()
        canvas.resetMatrix()
        canvas.saveLayer(area.makeOutset(room, room), layer)
        canvas.setMatrix(matrix)
        draw(brush)
        canvas.restore()
        canvas.restore()


def outline(path: list[float]) -> skia.Path:
    """A recorded path as a skia path."""
    result = skia.Path()
    place, end = 0, len(path)
    while place < end:
        code = path[place]
        if code == 0:
            result.moveTo(path[place + 1], path[place + 2])
            place += 3
        elif code == 1:
            result.lineTo(path[place + 1], path[place + 2])
            place += 3
        elif code == 2:
            result.cubicTo(*path[place + 1 : place + 7])
            place += 7
        elif code == 3:
            result.quadTo(*path[place + 1 : place + 5])
            place += 5
        elif code == 4:
            _add_arc(result, *path[place + 1 : place + 8])
            place += 8
        elif code == 5:
            result.close()
            place += 1
        elif code == 6:
            result.addRect(skia.Rect.MakeXYWH(*path[place + 1 : place + 5]))
            place += 5
        else:
            raise ValueError(f"a recorded path holds the code {code!r}, which is not known here.")
    return result


def _add_arc(
    path: skia.Path, x: float, y: float, rx: float, ry: float, rotation: float, start: float, sweep: float
) -> None:
    """A part of an ellipse, joined to what is there by a straight line; angles in radians."""
    oval = skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)
    first = not path.countPoints()
    target = path
    if rotation:
        target, first = skia.Path(), True
    # skia draws nothing for a whole turn in one piece.
    pieces = 2 if abs(sweep) > math.pi else 1
    for piece in range(pieces):
        begin = math.degrees(start + sweep * piece / pieces)
        target.arcTo(oval, begin, math.degrees(sweep / pieces), first and piece == 0)
    if rotation:
        turn = skia.Matrix()
        turn.setRotate(math.degrees(rotation), x, y)
        target.transform(turn)
        mode = skia.Path.AddPathMode.kExtend_AddPathMode
        path.addPath(target, 0, 0, mode) if path.countPoints() else path.addPath(target)


def _matrix(numbers: list[float]) -> skia.Matrix:
    a, b, c, d, e, f = numbers
    return skia.Matrix.MakeAll(a, c, e, b, d, f, 0, 0, 1)


def _brush(paint: list[Any]) -> skia.Paint:
    style, alpha = paint
    if isinstance(style, str):
        return skia.Paint(AntiAlias=True, Color=_faded(style, alpha))
    brush = skia.Paint(AntiAlias=True, Alphaf=alpha)
    brush.setShader(_shader(style))
    return brush


def _shader(style: dict[str, Any]) -> skia.Shader:
    if "pattern" in style:
        across = skia.TileMode.kRepeat if style["repeat"] in ("repeat", "repeat-x") else skia.TileMode.kDecal
        down = skia.TileMode.kRepeat if style["repeat"] in ("repeat", "repeat-y") else skia.TileMode.kDecal
        matrix = _matrix(style.get("matrix", [1, 0, 0, 1, 0, 0]))
        return _picture_of(style["pattern"]).makeShader(across, down, _SMOOTH, matrix)
    stops = sorted(style["stops"], key=lambda stop: stop[0])
    places, colors = [float(stop[0]) for stop in stops], [css_color(stop[1]) for stop in stops]
    if "linear" in style:
        x0, y0, x1, y1 = style["linear"]
        return skia.GradientShader.MakeLinear([skia.Point(x0, y0), skia.Point(x1, y1)], colors, places)
    x0, y0, r0, x1, y1, r1 = style["radial"]
    return skia.GradientShader.MakeTwoPointConical(
        skia.Point(x0, y0), r0, skia.Point(x1, y1), r1, colors, places
    )


def _picture_of(image: dict[str, Any]) -> skia.Image:
    if "source" in image:
        data = base64.b64decode(image["source"].split(",", 1)[1])
        return skia.Image.MakeFromEncoded(skia.Data.MakeWithCopy(data))
    surface = skia.Surface(math.ceil(image["width"]), math.ceil(image["height"]))
    surface.getCanvas().clear(skia.ColorTRANSPARENT)
    _Player(surface.getCanvas()).play(image["operations"])
    return surface.makeImageSnapshot()


def _with_line(brush: skia.Paint, line: list[Any]) -> skia.Paint:
    width, cap, join, miter, dashes, offset = line
    brush.setStyle(skia.Paint.kStroke_Style)
    brush.setStrokeWidth(width)
    brush.setStrokeCap(_CAPS[cap])
    brush.setStrokeJoin(_JOINS[join])
    brush.setStrokeMiter(miter)
    if any(dashes):
        even = dashes if len(dashes) % 2 == 0 else dashes * 2
        brush.setPathEffect(skia.DashPathEffect.Make([float(part) for part in even], offset))
    return brush


@functools.lru_cache(maxsize=1024)
def _faded(text: str, alpha: float) -> int:
    color = css_color(text)
    return skia.ColorSetA(color, round(skia.ColorGetA(color) * alpha))


@functools.lru_cache(maxsize=1024)
def css_color(text: str) -> int:
    """A CSS colour as ARGB: #rgb, #rrggbb, rgb(), rgba() or a name."""
    text = text.strip().lower()
    if re.fullmatch(r"#[0-9a-f]{3}", text):
        text = "#" + "".join(2 * digit for digit in text[1:])
    if re.fullmatch(r"#[0-9a-f]{6}", text):
        return skia.ColorSetRGB(*(int(text[place : place + 2], 16) for place in (1, 3, 5)))
    if match := re.fullmatch(r"rgba?\(([^)]*)\)", text):
        red, green, blue, *rest = (float(part) for part in match[1].split(","))
        alpha = rest[0] if rest else 1.0
    elif text in ("transparent", "none", ""):
        return skia.ColorTRANSPARENT
    else:
        red, green, blue, *_ = ImageColor.getrgb(text)  # the names of CSS; ValueError for anything else
        alpha = 1.0
    return skia.ColorSetARGB(round(255 * alpha), round(red), round(green), round(blue))


@functools.lru_cache(maxsize=512)
def _font_parts(css: str) -> tuple[str, bool, float]:
    """(family, bold, pixels) of a CSS font; the families that name none of ours are sans."""
    match = re.search(r"(\d+(?:\.\d+)?)px\s+[\"']?([^\"',]+)", css)
    if match is None:
        raise ValueError(f"the font {css!r} cannot be read.")
    family = match[2].strip()
    bold = re.search(r"\bbold\b|\b[6-9]00\b", css) is not None
    return family if family in FONT_FAMILIES else "sans", bold, float(match[1])


def css_font(css: str) -> skia.Font:
    """The font of a CSS font text such as "bold 18px serif"."""
    family, bold, pixels = _font_parts(css)
    return font(font_file(family, bold), pixels)


@functools.lru_cache(maxsize=512)
def _em_ascent(css: str) -> float:
    """How far the em square of a font rises above the baseline, in ems.

    As Chromium has it: the typographic ascent and descent of the font's OS/2 table, scaled to one em together.
    """
    family, bold, _ = _font_parts(css)
    ascent, descent = struct.unpack_from(">hh", typeface(font_file(family, bold)).getTableData(_OS2), 68)
    return ascent / (ascent - descent)


@functools.lru_cache(maxsize=8192)
def _check_drawable(text: str, css: str) -> None:
    family, bold, _ = _font_parts(css)
    if missing := missing_characters(font_file(family, bold), text):
        raise ValueError(f"the font {family} cannot draw {missing[0]!r} of {text!r}.")
