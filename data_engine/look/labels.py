"""A response shown as what it says, so that a wrong one is seen beside its picture.

What a response is, is told by its form and not by the name of its kind: boxes are drawn over the picture, a table is
set again from its HTML, a plane figure is plotted again from its dictionary, a molecule drawn again from its SMILES.
Nothing of a response reaches the page as markup.
"""

from __future__ import annotations

import ast
import html
import re
from typing import Any

from lxml import etree
from lxml import html as lxml_html

from data_engine.markup import DET, GRID, parse_grounded
from data_engine.prompts import PARSE_FIGURE

_COLORS = ("#d6336c", "#1c7ed6", "#2b8a3e", "#e8590c", "#7048e8", "#0b7285")
_TEXT_SHOWN = 1500
_FIGURE_SIZE = 260
_POINT = re.compile(r"\((-?[\d.]+), (-?[\d.]+)\)")
_FIGURE_HALF = 10.5
"""Figures lie in a window from -10 to 10."""


def boxes_over(response: str) -> str:
    """An SVG that lies over the picture with the boxes of a response; "" when it has none that can be read."""
    if DET not in response:
        return ""
    try:
        blocks = parse_grounded(response)
    except ValueError:
        return ""
    colors = {
        label: _COLORS[place % len(_COLORS)] for place, label in enumerate(sorted({b.label for b in blocks}))
    }
    shapes = "".join(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" stroke="{colors[block.label]}">'
        f"<title>{html.escape(block.label)}: {html.escape(block.text[:200])}</title></rect>"
        for block in blocks
        for left, top, right, bottom in block.boxes
    )
    return f'<svg class="boxes" viewBox="0 0 {GRID} {GRID}" preserveAspectRatio="none">{shapes}</svg>'


def quads_over(quads: Any, width: int, height: int) -> str:
    """An SVG that lies over the picture with quadrilaterals in pixels, lists of four [x, y]; "" when they are none."""
    try:
        corners = [[(float(x), float(y)) for x, y in quad] for quad in quads]
    except (TypeError, ValueError):
        return ""
    shapes = "".join(
        f'<polygon points="{" ".join(f"{x},{y}" for x, y in quad)}" stroke="{_COLORS[place % len(_COLORS)]}"/>'
        for place, quad in enumerate(corners)
    )
    return f'<svg class="boxes" viewBox="0 0 {width} {height}" preserveAspectRatio="none">{shapes}</svg>'


def shown(prompt: str, response: str) -> str:
    """A response as HTML."""
    drawn = ""
    if response.startswith("<table>"):
        drawn = _table(response)
    elif response.startswith("{'Line'"):
        drawn = figure_svg(response)
    elif prompt == PARSE_FIGURE:
        drawn = _molecule(response)
    text = response if len(response) <= _TEXT_SHOWN else response[:_TEXT_SHOWN] + " …"
    return f"{drawn}<pre>{html.escape(text)}</pre>"


def _table(response: str) -> str:
    try:
        table = lxml_html.fragment_fromstring(response)
    except etree.ParserError:
        return ""
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_spans(cell)}>{html.escape(cell.text_content())}</td>" for cell in row)
        + "</tr>"
        for row in table.iter("tr")
    )
    return f'<table class="label">{rows}</table>'


def _spans(cell: lxml_html.HtmlElement) -> str:
    spans = ((name, cell.get(name, "")) for name in ("rowspan", "colspan"))
    return "".join(f' {name}="{value}"' for name, value in spans if value.isascii() and value.isdigit())


def figure_svg(response: str) -> str:
    """The lines, circles and letters of a figure's dictionary in SVG; "" when it is none."""
    try:
        figure = ast.literal_eval(response)
        lines, circles = figure["Line"], figure.get("Circle", {"circle_center": [], "radius": []})
        paths = [_points(line) for line in lines["line"]]
        named = [(entry.split(": ", 1)[0], _points(entry)[0]) for entry in lines["line_endpoint"]]
        rings = [
            (_points(center)[0], float(radius))
            for center, radius in zip(circles["circle_center"], circles["radius"], strict=True)
        ]
        dashes = ["stroke-dasharray='.4 .25'" if kind == "--" else "" for kind in lines["line_type"]]
    except (
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
        MemoryError,
    ):
        return ""
    drawn = [
        f"<polyline points='{' '.join(f'{x},{-y}' for x, y in path)}' {dash}/>"
        + "".join(f"<circle cx='{x}' cy='{-y}' r='.12' class='dot'/>" for x, y in path)
        for path, dash in zip(paths, dashes, strict=False)
    ]
    drawn += [f"<circle cx='{x}' cy='{-y}' r='{radius}'/>" for (x, y), radius in rings]
    drawn += [f"<text x='{x + 0.3}' y='{-y - 0.3}'>{html.escape(name)}</text>" for name, (x, y) in named]
    half, side = _FIGURE_HALF, 2 * _FIGURE_HALF
    box = f"viewBox='{-half} {-half} {side} {side}' width='{_FIGURE_SIZE}' height='{_FIGURE_SIZE}'"
    return f"<svg class='figure' {box}>{''.join(drawn)}</svg>"


def _points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in _POINT.findall(text)]


def _molecule(response: str) -> str:
    from rdkit import Chem, rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(response) if len(response) < _TEXT_SHOWN else None
    if molecule is None or molecule.GetNumAtoms() == 0:
        return ""
    drawer = rdMolDraw2D.MolDraw2DSVG(_FIGURE_SIZE, _FIGURE_SIZE)
    options: Any = drawer.drawOptions()
    options.includeMetadata = False
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule)
    drawer.FinishDrawing()
    svg: str = drawer.GetDrawingText()
    return svg[svg.index("<svg") :]
