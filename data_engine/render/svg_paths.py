"""Drawing the SVG that RDKit writes: paths, ellipses and rectangles with a plain fill or stroke.

RDKit writes letters as outlines, so no font is needed; of SVG's path language it uses M, L, Q, C and Z.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_engine.render.graphics import skia

_ELEMENT = re.compile(r"<(path|rect|ellipse|circle|polygon|text|tspan)\b([^>]*)>", re.DOTALL)
_ATTRIBUTE = re.compile(r"([\w:-]+)='([^']*)'")
_TOKEN = re.compile(r"[A-Za-z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CAPS = {"butt": skia.Paint.kButt_Cap, "round": skia.Paint.kRound_Cap, "square": skia.Paint.kSquare_Cap}
_JOINS = {
    "miter": skia.Paint.kMiter_Join,
    "round": skia.Paint.kRound_Join,
    "bevel": skia.Paint.kBevel_Join,
}


def draw_svg(svg: str, canvas: skia.Canvas) -> None:
    """Draw every element of an RDKit drawing. ValueError for what RDKit is not known to write."""
    for element in _ELEMENT.finditer(svg):
        attributes = dict(_ATTRIBUTE.findall(element[2]))
        path = _outline(element[1], attributes)
        style = attributes | _declarations(attributes.get("style", ""))
        fill, stroke = style.get("fill", "black"), style.get("stroke", "none")
        if fill != "none":
            canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=_color(fill, style.get("fill-opacity"))))
        if stroke != "none":
            canvas.drawPath(path, _stroke(stroke, style))


def _outline(name: str, attributes: dict[str, str]) -> skia.Path:
    if name == "path":
        return parse_path(attributes["d"])
    path = skia.Path()
    if name == "rect":
        sides = (float(attributes[key]) for key in ("x", "y", "width", "height"))
        path.addRect(skia.Rect.MakeXYWH(*sides))
    elif name in ("ellipse", "circle"):
        x, y = float(attributes["cx"]), float(attributes["cy"])
        across = float(attributes.get("rx") or attributes["r"])
        upright = float(attributes.get("ry") or attributes["r"])
        path.addOval(skia.Rect.MakeLTRB(x - across, y - upright, x + across, y + upright))
    else:
        raise ValueError(f"a drawing holds the SVG element <{name}>, which is not known here.")
    return path


def parse_path(data: str) -> skia.Path:
    """The `d` of an SVG path with absolute M, L, Q, C and Z."""
    path = skia.Path()
    tokens = iter(_TOKEN.findall(data))
    command = ""
    for token in tokens:
        first = token
        if token.isalpha():
            command = token
            if command in "Zz":
                path.close()
                continue
            first = next(tokens)
        if command == "M":
            path.moveTo(float(first), *_numbers(tokens, 1))
            command = "L"  # more pairs after a move are lines
        elif command == "L":
            path.lineTo(float(first), *_numbers(tokens, 1))
        elif command == "Q":
            path.quadTo(float(first), *_numbers(tokens, 3))
        elif command == "C":
            path.cubicTo(float(first), *_numbers(tokens, 5))
        else:
            raise ValueError(f"an SVG path holds the command {command!r}, which is not known here.")
    return path


def _numbers(tokens: Iterator[str], count: int) -> list[float]:
    return [float(next(tokens)) for _ in range(count)]


def _declarations(style: str) -> dict[str, str]:
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    return {name.strip(): value.strip() for name, value in pairs}


def _color(text: str, opacity: str | None) -> int:
    if text == "black":
        text = "#000000"
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        raise ValueError(f"a drawing holds the colour {text!r}, which is not known here.")
    red, green, blue = (int(text[place : place + 2], 16) for place in (1, 3, 5))
    return skia.ColorSetARGB(round(255 * float(opacity or 1)), red, green, blue)


def _stroke(color: str, style: dict[str, str]) -> skia.Paint:
    paint = skia.Paint(
        AntiAlias=True,
        Color=_color(color, style.get("stroke-opacity")),
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=float(style.get("stroke-width", "1").removesuffix("px")),
        StrokeCap=_CAPS[style.get("stroke-linecap", "butt")],
        StrokeJoin=_JOINS[style.get("stroke-linejoin", "miter")],
    )
    dashes = style.get("stroke-dasharray", "none")
    if dashes != "none":
        paint.setPathEffect(skia.DashPathEffect.Make([float(part) for part in dashes.split(",")], 0))
    return paint
