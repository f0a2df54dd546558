"""Drawing the SVG that RDKit writes: paths, ellipses and rectangles with a plain fill or stroke.

RDKit writes letters as outlines, so no font is needed; of SVG's path language it uses M, L, Q, C and Z.
"""

from __future__ import annotations

import functools
import re

from data_engine.render.graphics import skia

_ELEMENT = re.compile(r"<(path|rect|ellipse|circle|polygon|text|tspan)\b([^>]*)>", re.DOTALL)
_ATTRIBUTE = re.compile(r"([\w:-]+)='([^']*)'")
_COMMAND = re.compile(r"([A-Za-z])([^A-Za-z]*)")
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
        for brush in _brushes(attributes.get("style", ""), attributes.get("fill"), attributes.get("stroke")):
            canvas.drawPath(path, brush)


@functools.lru_cache(maxsize=1024)
def _brushes(style_text: str, fill: str | None, stroke: str | None) -> tuple[skia.Paint, ...]:
    """What an element is painted with: its fill, then its stroke. A drawing has few different ones."""
    style = {"fill": fill or "black", "stroke": stroke or "none"} | _declarations(style_text)
    brushes = []
    if style["fill"] != "none":
        brushes.append(skia.Paint(AntiAlias=True, Color=_color(style["fill"], style.get("fill-opacity"))))
    if style["stroke"] != "none":
        brushes.append(_stroke(style["stroke"], style))
    return tuple(brushes)


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
    """The `d` of an SVG path with absolute M, L, Q, C and Z; each command may have several sets of numbers."""
    path = skia.Path()
    for command, text in _COMMAND.findall(data):
        numbers = [float(part) for part in text.replace(",", " ").split()]
        if command == "M":
            path.moveTo(numbers[0], numbers[1])
            command, numbers = "L", numbers[2:]  # more pairs after a move are lines
        if command == "L":
            for place in range(0, len(numbers), 2):
                path.lineTo(numbers[place], numbers[place + 1])
        elif command == "Q":
            for place in range(0, len(numbers), 4):
                path.quadTo(*numbers[place : place + 4])
        elif command == "C":
            for place in range(0, len(numbers), 6):
                path.cubicTo(*numbers[place : place + 6])
        elif command in "Zz":
            path.close()
        else:
            raise ValueError(f"an SVG path holds the command {command!r}, which is not known here.")
    return path


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
