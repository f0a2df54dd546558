"""Plane figures: the label tells every stroke and letter and nothing else, and every option does what it says."""

from __future__ import annotations

import ast
import math
import re
from itertools import pairwise

import cv2
import numpy as np
import pytest

from data_engine.errors import ConfigError
from data_engine.geometry_options import USUAL, GeometryOptions
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import Rendered
from data_engine.render.geometry_additions import add_something
from data_engine.render.geometry_figure import WINDOW, Figure, random_figure
from data_engine.render.geometry_shapes import add_shape
from data_engine.render.geometry_sketch import Sketch
from tests.data_engine.test_labels import pixels_of, samples

EVERYTHING = {"extra_lines": [1, 4], "circles": 0.6, "more_circles": 0.5, "intersections": 0.5}


def points_of(line: str) -> list[tuple[float, float]]:
    return [ast.literal_eval(point) for point in line.split(" -- ")]


def named_points(entries: list[str]) -> list[tuple[str, tuple[float, float]]]:
    pairs = [entry.split(": ") for entry in entries]
    return [(name, ast.literal_eval(point)) for name, point in pairs]


def figures(count: int, **options: object) -> list[Figure]:
    made = GeometryOptions(**options)  # type: ignore[arg-type]
    return [random_figure(Draws(6, "geometry", index), made) for index in range(count)]


def test_dictionaries_parse_back() -> None:
    shapes = {"circles": 0, "two circles": 0, "dashed": 0}
    for rendered in samples("geometry", 150, size=128, **EVERYTHING):
        label = ast.literal_eval(rendered.response)
        lines = label["Line"]["line"]
        assert len(lines) == len(label["Line"]["line_type"]) > 0
        assert set(label["Line"]["line_type"]) <= {"-", "--"}
        shapes["dashed"] += "--" in label["Line"]["line_type"]
        ends = set()
        for line in lines:
            points = points_of(line)
            ends |= {points[0], points[-1]}
            gaps = [math.dist(a, b) for a, b in pairwise(points)]
            assert all(abs(gap - 4) < 0.02 for gap in gaps[:-1])
            assert 0 < gaps[-1] < 4.02
            assert points[0] < points[-1]  # from left to right
        entries = named_points(label["Line"]["line_endpoint"])
        named = dict(entries)
        assert len(named) == len(entries)
        assert all(re.fullmatch("[A-Z]", name) for name in named)
        if named:
            assert ends <= set(named.values())
        xs, ys = zip(*ends, *named.values(), strict=True)
        if "Circle" in label:
            circles = named_points(label["Circle"]["circle_center"])
            radii = label["Circle"]["radius"]
            assert len(circles) == len(radii) <= 2
            shapes["circles"] += 1
            shapes["two circles"] += len(radii) == 2
            assert circles[0][0] == "O"
            for name, center in circles:
                assert named.get(name, center) == center
            for (_, (x, y)), radius in zip(circles, radii, strict=True):
                xs, ys = (*xs, x - radius, x + radius), (*ys, y - radius, y + radius)
        # the label is that of the centred figure, wherever the picture shows it
        assert abs(min(xs) + max(xs)) < 0.05
        assert abs(min(ys) + max(ys)) < 0.05
        assert max(max(xs) - min(xs), max(ys) - min(ys)) <= 17.01
    assert all(count > 10 for count in shapes.values())


def test_translation_shifts_the_picture_and_not_the_label() -> None:
    still = list(samples("geometry", 30, size=256, translation=0.0))
    moved = list(samples("geometry", 30, size=256, translation=1.0))
    assert [a.response for a in still] == [b.response for b in moved]
    assert sum((pixels_of(a) != pixels_of(b)).any() for a, b in zip(still, moved, strict=True)) > 25


def test_lines_are_drawn_where_the_label_says() -> None:
    """Without translation, a solid line's points are dark in the picture."""
    for rendered in samples("geometry", 40, size=400, translation=0.0, dashed=0.0):
        picture = pixels_of(rendered)
        label = ast.literal_eval(rendered.response)
        for line, kind in zip(label["Line"]["line"], label["Line"]["line_type"], strict=True):
            for x, y in points_of(line) if kind == "-" else []:
                column, row = round((x + 10) * 20), round((10 - y) * 20)
                around = picture[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
                assert around.min() < 150


def plotted(rendered: Rendered, size: int) -> np.ndarray:
    """The dictionary plotted again, a little thicker, and dots at the centres: [size, size], 1 or 0."""
    told, unit = np.zeros((size, size), np.uint8), size / WINDOW
    label = ast.literal_eval(rendered.response)

    def pixel(x: float, y: float) -> tuple[int, int]:
        return round((x + WINDOW / 2) * unit), round((WINDOW / 2 - y) * unit)

    for line in label["Line"]["line"]:
        cv2.polylines(told, [np.array([pixel(*point) for point in points_of(line)])], False, 1, 7)
    circles = label.get("Circle", {"circle_center": [], "radius": []})
    for (_, center), radius in zip(named_points(circles["circle_center"]), circles["radius"], strict=True):
        cv2.circle(told, pixel(*center), round(radius * unit), 1, 7)
        cv2.circle(told, pixel(*center), 6, 1, -1)
    return told


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_every_stroke_of_a_figure_is_told(options: dict) -> None:
    """All ink is covered by the dictionary plotted again, but for the letters, whose boxes the renderer tells."""
    size = 400
    for letters in (0.0, 1.0):
        for rendered in samples("geometry", 60, size=size, translation=0.0, letters=letters, **options):
            told = plotted(rendered, size)
            ink = pixels_of(rendered) < 200
            in_letters = np.zeros((size, size), np.uint8)
            for quad in rendered.text_quads:
                cv2.fillConvexPoly(in_letters, np.round(np.array(quad)).astype(np.int32), 1)
            assert not (ink & (told == 0) & (in_letters == 0)).any(), rendered.response
            assert (ink & (told > 0)).sum() > 0.05 * told.sum()
            assert bool(rendered.text_quads) == bool(letters)


def test_every_letter_stands_beside_its_point_and_none_is_told_that_is_not_drawn() -> None:
    size = 400
    for rendered in samples("geometry", 60, size=size, translation=0.0, **EVERYTHING):
        label = ast.literal_eval(rendered.response)
        told = dict(named_points(label["Line"]["line_endpoint"]))
        centers = dict(named_points(label.get("Circle", {"circle_center": []})["circle_center"]))
        drawn = [np.mean(quad, axis=0) for quad in rendered.text_quads]
        assert len(told) <= len(drawn) <= len(told | centers)
        for x, y in told.values():
            at = (x + WINDOW / 2) * size / WINDOW, (WINDOW / 2 - y) * size / WINDOW
            assert min(math.dist(at, place) for place in drawn) < 0.06 * size
        picture = pixels_of(rendered)
        for quad in rendered.text_quads:
            (left, top), (right, bottom) = np.maximum(0, np.floor(quad[0])), np.ceil(quad[2])
            assert picture[int(top) : int(bottom), int(left) : int(right)].min() < 150


def test_letters_stand_clear_of_lines() -> None:
    """The picture without its lines would be the same under the letters' boxes: at most a few are touched."""
    touched = letters = 0
    for rendered in samples("geometry", 60, size=400, translation=0.0, extra_lines=[0, 2]):
        lines = plotted(rendered, 400)
        for quad in rendered.text_quads:
            box = np.zeros_like(lines)
            cv2.fillConvexPoly(box, np.round(np.array(quad)).astype(np.int32), 1)
            letters += 1
            touched += (lines & box).sum() > 0.15 * box.sum()
    assert touched < 0.03 * letters


@pytest.mark.parametrize("shape", USUAL["shapes"])
def test_every_shape_can_be_had_and_grows_by_what_is_added(shape: str) -> None:
    plain = figures(20, shapes=[shape], extra_lines=[0, 0], circles=0.0, more_circles=0.0, deleted=0.0)
    assert all(len(figure.circles) == (shape == "circle") for figure in plain)
    least = {"triangle": {3}, "angle": {2, 3}, "circle": {2, 3, 4}}.get(shape, {4})
    assert {len(figure.segments) for figure in plain} <= least
    grown = figures(20, shapes=[shape], extra_lines=[3, 3], circles=0.0, more_circles=0.0, deleted=0.0)
    assert all(len(figure.segments) > min(least) for figure in grown)


@pytest.mark.parametrize("form", USUAL["additions"])
def test_every_addition_can_be_had(form: str) -> None:
    added = 0
    for number in range(40):
        stream = Stream(f"{form}/{number}")
        sketch = Sketch()
        shape = "circle" if form in ("chord", "radius", "tangent") else "quadrilateral"
        add_shape(sketch, shape, 0.0, stream)
        before = list(sketch.lines)
        done = add_something(sketch, {form: 1.0}, stream)
        assert done == (sketch.lines != before)
        added += done
    assert added > 15


def test_a_fold_mirrors_its_corner() -> None:
    for number in range(20):
        sketch = Sketch()
        add_shape(sketch, "quadrilateral", 0.0, Stream(f"fold/{number}"))
        assert add_something(sketch, {"fold": 1.0}, Stream(f"fold/{number}/more"))
        corner = next(end for start, end, dashed in sketch.lines if dashed)
        creases = [start for start, end, dashed in sketch.lines if dashed]
        folded = len(sketch.points) - 1
        for crease in creases:
            from_corner = math.dist(sketch.points[crease], sketch.points[corner])
            assert abs(from_corner - math.dist(sketch.points[crease], sketch.points[folded])) < 1e-6


def test_tangents_touch_and_chords_end_on_the_circle() -> None:
    def distance(center: tuple[float, float], ends: tuple[tuple[float, float], ...]) -> float:
        (ax, ay), (bx, by) = ends
        return abs((bx - ax) * (center[1] - ay) - (by - ay) * (center[0] - ax)) / math.dist(*ends)

    for form in ("tangent", "chord"):
        for number in range(20):
            sketch = Sketch()
            add_shape(sketch, "circle", 0.0, Stream(f"{form}/{number}"))
            if not add_something(sketch, {form: 1.0}, Stream(f"{form}/{number}/more")):
                continue
            center, radius = sketch.circles[0]
            ends = sketch.ends(sketch.lines[-1])
            if form == "tangent":
                assert abs(distance(center, ends) - radius) < 1e-6
            else:
                assert all(abs(math.dist(center, end) - radius) < 1e-6 for end in ends)


def test_shares_do_what_they_say() -> None:
    def with_circle(**options: object) -> list[Figure]:
        return [figure for figure in figures(60, shapes=["circle"], **options) if figure.lettered]

    loose = {"extra_lines": [0, 0], "letters": 1.0, "more_circles": 0.0}
    for share in (0.0, 1.0):
        found = [
            figure
            for figure in with_circle(center_letters=share, center_dots=share, **loose)
            if figure.circles[0].center not in figure.points.values()
        ]
        assert len(found) > 20
        assert {figure.circles[0].name for figure in found} == ({"O"} if share else {None})
        assert {figure.circles[0].dotted for figure in found} == {bool(share)}
    dots = [figure.circles[0].dotted for figure in figures(200, shapes=["circle"], letters=0.0)]
    assert 60 < sum(dots) < 140
    assert {len(figure.circles) for figure in with_circle(more_circles=1.0)} == {2}
    crossed = {"shapes": ["square"], "extra_lines": [2, 2], "additions": ["diagonal"], "letters": 1.0}
    for share, points in ((0.0, 4), (1.0, 5)):
        some = figures(10, **crossed, intersections=share, circles=0.0, deleted=0.0)
        assert {len(figure.points) for figure in some} == {points}
    lost = figures(60, shapes=["square"], deleted=1.0, extra_lines=[0, 0], circles=0.0)
    assert {len(figure.segments) for figure in lost} == {2, 3}


def test_style_is_what_the_options_say() -> None:
    def ink(**options: object) -> float:
        options = {"letters": 0.0, "ink": [0, 0], "paper": [255, 255], **options}
        return float(
            np.mean(
                [
                    (255 - pixels_of(rendered)).mean()
                    for rendered in samples("geometry", 20, size=256, **options)
                ]
            )
        )

    assert ink(line_widths=[0.01, 0.01]) > 1.7 * ink(line_widths=[0.004, 0.004])
    assert ink(ink=[120, 120]) < 0.6 * ink()
    papers = {int(np.median(pixels_of(one))) for one in samples("geometry", 20, size=128, paper=[180, 181])}
    assert papers == {180, 181}
    small, large = (
        [
            quad[2][1] - quad[0][1]
            for one in samples("geometry", 20, letter_sizes=[share, share])
            for quad in one.text_quads
        ]
        for share in (0.02, 0.06)
    )
    assert np.mean(large) > 2 * np.mean(small)
    pictures = [
        [one.pictures[0].data for one in samples("geometry", 5, letters=1.0, families=[family])]
        for family in ("sans", "serif", "mono")
    ]
    assert pictures[0] != pictures[1] != pictures[2]
    dashed = {"dashed": 1.0, "shapes": ["square"], "extra_lines": [0, 0], "letters": 0.0}
    short, long = (
        [one.pictures[0].data for one in samples("geometry", 5, dashes=[share, share], **dashed)]
        for share in (0.01, 0.04)
    )
    assert short != long


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shapes": ["cube"]}, "options.shapes=cube is not possible"),
        ({"shapes": {"square": -1}}, "options.shapes.square=-1 is not possible: a weight is a number from 0 up."),
        ({"additions": {}, "families": []}, "options.families needs at least one of sans, serif, mono."),
        ({"more_circles": 2}, "options.more_circles=2 is not possible"),
        ({"line_widths": [0.1, 0.2]}, r"options.line_widths=\[0.1,0.2\] is not possible"),
        ({"ink": [0, 200]}, r"options.ink=\[0,200\] is not possible"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        GeometryOptions(**options)


def test_two_circles_may_share_their_centre() -> None:
    from data_engine.render.geometry_figure import _can_be_told_apart

    corners = [(-5.0, -5.0), (5.0, -5.0), (5.0, 5.0), (-5.0, 5.0)]
    sides = [(number, (number + 1) % 4, False) for number in range(4)]
    assert _can_be_told_apart(corners, sides, [(0.0, 0.0), (0.0, 0.0)])
    assert not _can_be_told_apart(corners, sides, [(0.0, 0.0), (0.1, 0.0)])
