"""Plane figures: drawn with skia on gray, labelled with the dictionary of the paper.

Every line is told as points no more than four units apart (the perception ruler), so that a long line is a
path of short, sure steps. The picture is shifted at random; the label stays that of the centred figure.
"""

from __future__ import annotations

import math

import numpy as np

from data_engine.fonts import font_file
from data_engine.geometry_options import GeometryOptions
from data_engine.prompts import PARSE_FIGURE
from data_engine.random_stream import Draws
from data_engine.render.base import Rendered, Renderer
from data_engine.render.geometry_figure import WINDOW, Figure, random_figure
from data_engine.render.geometry_letters import LetterWriter, Quad, places_beside
from data_engine.render.geometry_plane import Point
from data_engine.render.graphics import font, font_versions, graphics_versions, gray_surface, skia
from data_engine.render.png import encode

RULER = 4.0
_LEAST_LETTER = 10.0  # pixels
_LEAST_DASH = 3.0  # pixels


class GeometryRenderer(Renderer):
    def __init__(self, options: GeometryOptions) -> None:
        self._options = options
        self._weights = options.weights()
        self._unit = options.size / WINDOW
        # A letter stands outside of its point: its room belongs to the figure.
        self._room = 1.35 * max(_LEAST_LETTER, options.size * options.letter_sizes[1]) / self._unit

    def versions(self) -> dict[str, str]:
        return graphics_versions() | font_versions(
            tuple(family for family, weight in self._weights["families"].items() if weight)
        )

    def render(self, draws: Draws) -> Rendered:
        figure = random_figure(draws, self._options, WINDOW - 2 * self._room, self._weights)
        picture, letters = self._draw(figure, draws)
        return Rendered(
            (encode(picture),),
            PARSE_FIGURE,
            label_of(figure),
            "geometry",
            tells_places=True,
            text_quads=tuple(letters),
            plain_ground=True,
        )

    def _draw(self, figure: Figure, draws: Draws) -> tuple[np.ndarray, list[Quad]]:
        """The picture, and the corners of every letter in it."""
        options, style = self._options, draws.stream("style")
        size = options.size
        ink, paper = style.integer(*options.ink), style.integer(*options.paper)
        letter_pixels = round(max(_LEAST_LETTER, size * style.uniform(*options.letter_sizes)), 1)
        letter = font(font_file(style.weighted(self._weights["families"]), False), letter_pixels)
        line_pixels = max(1.0, size * style.uniform(*options.line_widths))
        dash = max(_LEAST_DASH, size * style.uniform(*options.dashes))
        left, bottom, right, top = figure.box()
        free_x = max(0.0, WINDOW - (right - left) - 2 * self._room) / 2
        free_y = max(0.0, WINDOW - (top - bottom) - 2 * self._room) / 2
        layout = draws.stream("layout")
        shift_x = free_x * options.translation * layout.uniform(-1, 1)
        shift_y = free_y * options.translation * layout.uniform(-1, 1)

        def pixel(point: Point) -> Point:
            return (point[0] + shift_x + WINDOW / 2) * self._unit, (
                WINDOW / 2 - point[1] - shift_y
            ) * self._unit

        picture, surface = gray_surface(size, size)
        canvas = surface.getCanvas()
        canvas.clear(skia.ColorSetRGB(paper, paper, paper))
        color = skia.ColorSetRGB(ink, ink, ink)
        line = skia.Paint(
            AntiAlias=True, Color=color, Style=skia.Paint.kStroke_Style, StrokeWidth=line_pixels
        )
        dashed = skia.Paint(line)
        dashed.setPathEffect(skia.DashPathEffect.Make([dash, 0.7 * dash], 0))
        for segment in figure.segments:
            start, end = pixel(figure.points[segment.start]), pixel(figure.points[segment.end])
            canvas.drawLine(*start, *end, dashed if segment.dashed else line)
        fill = skia.Paint(AntiAlias=True, Color=color)
        for circle in figure.circles:
            canvas.drawCircle(*pixel(circle.center), circle.radius * self._unit, line)
            if circle.dotted:
                canvas.drawCircle(*pixel(circle.center), max(1.5, 1.2 * line_pixels), fill)
        writer = LetterWriter(picture, canvas, paper, letter, fill)
        away = (0.8 * letter_pixels + line_pixels) / self._unit
        letters = [
            writer.write(name, map(pixel, places_beside(figure, point, away)))
            for name, point in figure.letters().items()
        ]
        return picture, letters


def label_of(figure: Figure) -> str:
    """The dictionary of a figure as text: lines through their ruler points, line types, named points, circles.

    Lines run from left to right (upward when upright) and are listed by where they start: what the picture
    shows decides the text, not how the figure was made. The format names every centre: O, too, where none is drawn.
    """
    lines = []
    for segment in figure.segments:
        ends = sorted((figure.points[segment.start], figure.points[segment.end]))
        lines.append((ends[0], ends[1], "--" if segment.dashed else "-"))
    lines.sort()
    named = sorted(figure.points.items()) if figure.lettered else []
    label: dict[str, dict[str, list]] = {
        "Line": {
            "line": [" -- ".join(_point(point) for point in ruler_points(a, b)) for a, b, _ in lines],
            "line_type": [kind for _, _, kind in lines],
            "line_endpoint": [f"{name}: {_point(point)}" for name, point in named],
        }
    }
    if figure.circles:
        label["Circle"] = {
            "circle_center": [f"{circle.name or 'O'}: {_point(circle.center)}" for circle in figure.circles],
            "radius": [circle.radius for circle in figure.circles],
        }
    return str(label)


def ruler_points(start: Point, end: Point) -> list[Point]:
    """The ends of a line and the points every RULER units from its start; the last piece may be shorter."""
    length = math.dist(start, end)
    pieces = max(1, math.ceil(length / RULER - 1e-9))
    inner = [
        (
            round(start[0] + (end[0] - start[0]) * RULER * piece / length, 2) + 0.0,
            round(start[1] + (end[1] - start[1]) * RULER * piece / length, 2) + 0.0,
        )
        for piece in range(1, pieces)
    ]
    return [start, *inner, end]


def _point(point: Point) -> str:
    return f"({point[0]:g}, {point[1]:g})"
