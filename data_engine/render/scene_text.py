"""Scene text: signs on photographs or textures, answered with or without boxes as the paper's prompts ask for it.

Without boxes (`Free OCR.`) the answer is the lines in reading order. With boxes (`<|grounding|>OCR this image.`) it
is one reference per line, the text itself and the upright box around its quadrilateral:

    <|ref|>Northern Market<|/ref|><|det|>[[102, 88, 431, 190]]<|/det|>

The quadrilaterals themselves, in pixels and in the same order, are in the provenance under "quads".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_engine.foreign import UnusableError
from data_engine.languages import WORDS
from data_engine.markup import GRID, Block, grid_box, write_references
from data_engine.options import width_and_height
from data_engine.prompts import FREE_OCR, IMAGE_OCR_WITH_BOXES
from data_engine.random_stream import Draws, Stream, permuted
from data_engine.render.base import NoSampleError, Rendered, Renderer
from data_engine.render.graphics import color_surface, graphics_versions, skia, versions_of
from data_engine.render.jpeg import encode_page
from data_engine.render.scene_text_paint import (
    PaintedLine,
    PlacedSign,
    choose_style,
    grey_span,
    paint_sign,
)
from data_engine.render.scene_text_planes import (
    Quad,
    bounds,
    in_reading_order,
    least_stretch,
    meet,
    moved,
    parted,
    quad_of,
    scaled_and_moved,
    turned,
)
from data_engine.render.scene_text_signs import Sign, make_sign
from data_engine.render.textures import texture
from data_engine.render.writing import writing
from data_engine.scene_text_options import SceneTextOptions
from data_engine.sources.photographs import Photographs

NO_SIGN = "no legible text fits on the picture"
_LEAST_FONT = 9.0
"""Pixels in the picture, where perspective makes the letters smallest: below that they cannot be told apart."""
_LEAST_DENSE_FONT = 11.0
_WORD = 4.5  # font sizes: how wide a word of the others is
_DENSE = {"zh": 2.0, "ar": 4.0, WORDS: _WORD}
"""Scripts with more strokes in a letter, and how many font sizes a word of theirs is wide. Those of the user may be."""
_PLACES = 8  # tried for one sign
_TRIES = (2, 4)  # signs drawn for each that is wanted, and beyond that
_LARGEST = 0.94  # of the picture's sides
_OTHER_LANGUAGE = 0.25  # share of the signs
_STRAIGHTER = 0.7
"""How much less a sign is slanted in the next try where a line reaches into the upright box of another one."""
_TURNS = 8
_AROUND = 0.08  # font sizes: outline, blur and the edge of a pixel, around the letters
BOXES_MEET = "boxes of two lines overlap after a perspective of the whole picture"


PaintedSign = tuple[PlacedSign, list[PaintedLine]]


@dataclass(frozen=True)
class Scene:
    """A painted picture and what it says."""

    pixels: np.ndarray
    """[H, W, 4] RGBA uint8."""
    signs: tuple[PlacedSign, ...]
    """In reading order."""
    lines: tuple[tuple[PaintedLine, ...], ...]
    """Of each sign."""


class SceneTextRenderer(Renderer):
    def __init__(self, options: SceneTextOptions) -> None:
        self._options = options
        self._width, self._height = width_and_height(options.size)
        side = min(self._width, self._height)
        self._font_pixels = options.font_pixels or (max(14.0, 0.045 * side), max(18.0, 0.12 * side))
        given = options.weights()
        self._textures = given["textures"]
        self._writing = writing(given["languages"], given["families"], options.fonts, options.words_file)
        self._photographs = Photographs(options.photographs) if options.photographs is not None else None

    def versions(self) -> dict[str, str]:
        versions = graphics_versions() | dict(self._writing.versions)
        if self._photographs:
            versions |= versions_of("pillow") | {"photographs": self._photographs.digest()[:32]}
        return versions

    def render(self, draws: Draws) -> Rendered:
        options = self._options
        ground, told = self._ground(draws)
        language = self._writing.language(draws.stream("language"))
        scene = self.scene(draws, ground, language)
        grounded = draws.stream("prompt").chance(options.grounding)
        texts = [line.text for lines in scene.lines for line in lines]
        quads = [line.quad for lines in scene.lines for line in lines]
        told |= {"language": language, "signs": len(scene.signs), "effects": _effects(scene.signs)}
        answer = Answer(texts, quads, told, grounded, self._width, self._height)
        picture = encode_page(scene.pixels, options.jpeg_quality)
        return Rendered(
            (picture,),
            IMAGE_OCR_WITH_BOXES if grounded else FREE_OCR,
            answer.response(),
            "scene_text",
            answer.details(),
            tells_places=True,
            text_quads=tuple(quads),
            told_again=answer.told_again,
        )

    def _ground(self, draws: Draws) -> tuple[np.ndarray, dict[str, Any]]:
        """RGB [H, W, 3] to write on, and what it is."""
        stream = draws.stream("ground")
        if self._photographs is None:
            family = stream.weighted(self._textures)
            return texture(family, stream, self._width, self._height), {"ground": family}
        count = len(self._photographs)
        turn, place = divmod(draws.index, count)  # every photograph once before any comes again
        number = permuted(place, count, f"{draws.seed}/{draws.kind}/{turn}")
        try:
            photograph = self._photographs.read(number, self._width, self._height, stream)
        except UnusableError as error:
            raise NoSampleError(str(error), self._photographs.name(number)) from error
        return photograph.pixels, {
            "ground": "photograph",
            "file": photograph.file,
            "file_sha256": photograph.sha256,
        }

    def scene(self, draws: Draws, ground: np.ndarray, language: str) -> Scene:
        """Signs on a ground [H, W, 3]. NoSampleError when not one of them finds a place where it can be read."""
        options = self._options
        pixels, surface = color_surface(self._width, self._height)
        cv2.cvtColor(ground, cv2.COLOR_RGB2RGBA, dst=pixels)
        gray = cv2.cvtColor(ground, cv2.COLOR_RGB2GRAY)
        wanted = draws.stream("layout").integer(*options.signs)
        painted: list[PaintedSign] = []
        for number in range(_TRIES[0] * wanted + _TRIES[1]):
            stream = draws.stream(f"sign/{number}")
            own = self._writing.language(stream) if stream.chance(_OTHER_LANGUAGE) else language
            found = self._sign(stream, own, gray, painted, pixels, surface.getCanvas())
            if found is not None:
                painted.append(found)
            if len(painted) == wanted:
                break
        if not painted:
            raise NoSampleError(
                NO_SIGN, f"sample {draws.index}: make options.size larger or options.font_pixels smaller"
            )
        order = in_reading_order(
            [placed.quad for placed, _ in painted], self._writing.scripts[language].right_to_left
        )
        return Scene(
            pixels,
            tuple(painted[number][0] for number in order),
            tuple(tuple(painted[number][1]) for number in order),
        )

    def _sign(
        self,
        stream: Stream,
        language: str,
        gray: np.ndarray,
        taken: list[PaintedSign],
        pixels: np.ndarray,
        canvas: skia.Canvas,
    ) -> PaintedSign | None:
        """Draw, place and paint one sign; None, and the picture as before, when it finds no place or no contrast.

        The upright box of every line holds nothing of any other one: boxes are what the label tells.
        """
        options = self._options
        written = self._writing
        least_font = _LEAST_DENSE_FONT if language in _DENSE else _LEAST_FONT
        size = float(round(stream.uniform(*self._font_pixels)))
        fitting = max(1, int(_LARGEST * self._width / (least_font * _DENSE.get(language, _WORD))))
        words = (min(fitting, options.words[0]), min(fitting, options.words[1]))
        lines = (options.lines[0], options.lines[1])
        family = written.family(stream, language)
        sign = make_sign(stream, written.typesetter, written.scripts[language], family, size, lines, words)
        matrix = self._place(stream, sign, least_font, gray, taken)
        if matrix is None:
            return None
        quad = quad_of(matrix, sign.box)
        left, top, right, bottom = (round(side) for side in bounds(quad))
        region = pixels[max(0, top - 1) : bottom + 2, max(0, left - 1) : right + 2]
        before = region.copy()
        span, em = grey_span(gray, quad), sign.pixels * least_stretch(matrix, sign.box)
        for plated in (False, True):
            style = choose_style(stream, options, span, em, sign.pixels, plated)
            placed = PlacedSign(sign, matrix, style)
            painted = paint_sign(pixels, canvas, placed)
            if min(line.contrast for line in painted) < options.contrast:
                np.copyto(region, before)
                continue
            others = [line.quad for _, lines in taken for line in lines]
            if parted([line.quad for line in painted], others, max(self._width, self._height) / GRID):
                return placed, painted
            np.copyto(region, before)  # an outline or a blur wider than usual
            return None
        return None

    def _place(
        self, stream: Stream, sign: Sign, least_font: float, gray: np.ndarray, taken: list[PaintedSign]
    ) -> np.ndarray | None:
        """A homography for a sign, inside of the picture and clear of the others; None when there is none.

        Of the places that are free the one with the calmest ground is taken.
        """
        turn, lines = self._turned(stream, sign)
        whole = quad_of(turn, sign.box)
        left, top, right, bottom = bounds(whole)
        across, down = _LARGEST * self._width, _LARGEST * self._height
        scale = min(1.0, across / (right - left), down / (bottom - top))
        least = min(line.pixels for line in sign.lines)
        if scale * least * least_stretch(turn, sign.box) < least_font:
            return None
        signs = [placed.quad for placed, _ in taken]
        others = [line.quad for _, painted in taken for line in painted]
        free: list[tuple[float, float, float]] = []
        for _ in range(_PLACES):
            x = stream.uniform(1 - scale * left, self._width - 1 - scale * right)
            y = stream.uniform(1 - scale * top, self._height - 1 - scale * bottom)
            quad = _at(whole, scale, x, y)
            if not any(meet(quad, other) for other in signs) and all(
                parted([_at(line, scale, x, y)], others) for line in lines
            ):
                around = gray[
                    int(y + scale * top) : int(y + scale * bottom),
                    int(x + scale * left) : int(x + scale * right),
                ]
                free.append((float(cv2.meanStdDev(around)[1].item()), x, y))
            if len(free) == 2:
                break
        if not free:
            return None
        _, x, y = min(free)
        return scaled_and_moved(turn, scale, x, y)

    def _turned(self, stream: Stream, sign: Sign) -> tuple[np.ndarray, list[Quad]]:
        """A homography whose upright boxes around the lines part, and where it takes the ink of the lines."""
        options, side = self._options, max(sign.width, sign.height)
        around = _AROUND * sign.pixels
        boxes = [
            (left - around, top - around, right + around, bottom + around)
            for left, top, right, bottom in (line.ink_box for line in sign.lines)
        ]
        for number in range(_TURNS + 1):
            slant = _STRAIGHTER**number if number < _TURNS else 0.0
            turn = turned(stream, side, options.perspective, options.rotation, slant)
            lines = [quad_of(turn, box) for box in boxes]
            if parted(lines):
                break
        return turn, lines


def _effects(signs: Iterable[PlacedSign]) -> list[str]:
    """What there is on signs besides letters, for the provenance."""
    found = set()
    for style in (placed.style for placed in signs):
        shown = {
            "plate": style.plate,
            "outline": style.outline,
            "shadow": style.shadow,
            "blur": style.blur or None,
        }
        found |= {name for name, value in shown.items() if value is not None}
    return sorted(found)


def _at(quad: Quad, scale: float, x: float, y: float) -> Quad:
    return tuple((scale * quad_x + x, scale * quad_y + y) for quad_x, quad_y in quad)


@dataclass(frozen=True)
class Answer:
    """What is said about a picture, and how it is said again after its pixels moved."""

    texts: list[str]
    quads: list[Quad]
    told: dict[str, Any]
    """More for the provenance."""
    grounded: bool
    width: int
    height: int

    def response(self) -> str:
        if not self.grounded:
            return "\n".join(self.texts)
        boxes = [grid_box(bounds(quad), self.width, self.height) for quad in self.quads]
        return write_references(Block(text, (box,), "") for text, box in zip(self.texts, boxes, strict=True))

    def details(self) -> dict[str, Any]:
        quads = [[[round(x, 2), round(y, 2)] for x, y in quad] for quad in self.quads]
        return {**self.told, "quads": quads}

    def told_again(self, matrix: np.ndarray) -> tuple[str, dict[str, Any]]:
        """(response, details) of the picture whose pixels a homography [3, 3] moved.

        NoSampleError where boxes are told and that of one line holds something of another one now.
        """
        quads = [tuple((float(x), float(y)) for x, y in moved(matrix, quad)) for quad in self.quads]
        if self.grounded and not parted(quads, (), max(self.width, self.height) / GRID):
            raise NoSampleError(BOXES_MEET, "make degrade.strength smaller")
        answer = Answer(self.texts, quads, self.told, self.grounded, self.width, self.height)
        return answer.response(), answer.details()
