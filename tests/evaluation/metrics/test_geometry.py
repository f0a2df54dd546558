from __future__ import annotations

import itertools
import math
import random

import pytest

from evaluation.metrics.figure_text import FigureError, Line, read_figure
from evaluation.metrics.geometry import line_distance, matches, score_figure

FIGURE = (
    "{'Line': {'line': ['(0, 0) -- (4, 0) -- (6, 0)', '(0, 0) -- (0, 3)'], 'line_type': ['-', '--'], "
    "'line_endpoint': ['A: (0, 0)', 'B: (6, 0)']}, 'Circle': {'circle_center': ['O: (1, 1)'], 'radius': [2.5]}}"
)


def figure(*lines: str) -> str:
    return str({"Line": {"line": list(lines), "line_type": ["-"] * len(lines), "line_endpoint": []}})


def random_lines(generator: random.Random) -> list[Line]:
    def point() -> tuple[float, float]:
        return generator.randrange(3) + generator.choice((0, 0.3)), float(generator.randrange(2))

    return [Line((point(), point())) for _ in range(generator.randrange(5))]


def most_matches(predicted: list[Line], true: list[Line], tolerance: float) -> tuple[int, float]:
    """(matches, their total distance) of the best one-to-one matching, by trying all of them."""
    best = (0, 0.0)
    short, long = sorted((predicted, true), key=len)
    for chosen in itertools.permutations(long, len(short)):
        distances = []
        for one, other in zip(short, chosen, strict=True):
            a, b, c, d = *one.points, *other.points
            ways = (max(math.dist(a, c), math.dist(b, d)), max(math.dist(a, d), math.dist(b, c)))
            distances.append(min(ways))
        near = [distance for distance in distances if distance <= tolerance]
        best = max(best, (len(near), -sum(near)))
    return best


def test_the_matching_equals_trying_every_assignment() -> None:
    generator = random.Random(9)
    for _ in range(250):
        predicted, true = random_lines(generator), random_lines(generator)
        found = matches(predicted, true, line_distance, 0.5)
        count, total = most_matches(predicted, true, 0.5)
        assert len(found) == count
        assert -sum(line_distance(predicted[i], true[j]) for i, j in found) == pytest.approx(total)


def test_a_right_figure_is_right_in_any_direction_and_order() -> None:
    other = (
        "{'Circle': {'circle_center': ['O: (1, 1)'], 'radius': [2.5]}, 'Line': {'line': ['(0, 3) -- (0, 0)', "
        "'(6, 0) -- (2, 0) -- (0, 0)'], 'line_type': ['--', '-'], 'line_endpoint': ['B: (6, 0)', 'A: (0, 0)']}}"
    )
    score = score_figure(other, FIGURE)
    assert score.lines.f1 == score.typed_lines.f1 == score.elements.f1 == 1.0
    assert not score.malformed


def test_known_scores() -> None:
    truth = figure("(0, 0) -- (6, 0)", "(0, 0) -- (0, 3)")
    assert score_figure(figure("(0, 0) -- (6, 0.4)"), truth).lines.f1 == pytest.approx(2 / 3)
    assert score_figure(figure("(0, 0) -- (6, 0.6)"), truth).lines.f1 == 0
    # The same line twice: one of them is too many.
    assert score_figure(figure(*["(0, 0) -- (6, 0)"] * 2), truth).lines.precision == 0.5
    # Right ends and a wrong way between them.
    assert score_figure(figure("(0, 0) -- (3, 2) -- (6, 0)"), truth).lines.recall == 0
    dashed = FIGURE.replace("['-', '--']", "['-', '-']")
    assert (score_figure(dashed, FIGURE).lines.f1, score_figure(dashed, FIGURE).typed_lines.f1) == (1.0, 0.5)
    assert score_figure(FIGURE.replace("2.5", "3.5"), FIGURE).elements.f1 == pytest.approx(4 / 5)
    assert score_figure(FIGURE.replace("A:", "C:"), FIGURE).elements.f1 == pytest.approx(4 / 5)
    assert score_figure(figure(), figure()).lines.f1 == 1.0
    # The diagonals of a box are not each other.
    assert score_figure(figure("(0, 3) -- (3, 0)"), figure("(0, 0) -- (3, 3)")).lines.f1 == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a triangle",
        "[1, 2]",
        "{'Line': 3}",
        "{'Line': {'line': 'x'}}",
        "{'Line': {'line': ['(0, 0)'], 'line_type': ['-']}}",
        "{'Line': {'line': ['(0, 0) -- (1, 1)'], 'line_type': []}, 'Circle': {'radius': [1]}}",
        "{'Circle': {'circle_center': ['O: (1, 1)'], 'radius': ['2']}}",
        "{'Circle': {'circle_center': ['O: (1, 1)'], 'radius': [-1]}}",
        "{'Line': {'line': ['(inf, 0) -- (1, 1)'], 'line_type': ['-']}}",
        "{'Line': {'line': [], 'line_endpoint': ['A (0, 0)']}}",
        "{'Shape': {}}",
        "{" * 100_000,
        "[" * 90 + "]" * 90,
        "__import__('os').system('false')",
        "{'Line': __import__('os')}",
        "9" * 99_000,
        FIGURE[:-3],
    ],
)
def test_what_is_no_figure_is_wrong(text: str) -> None:
    score = score_figure(text, FIGURE)
    assert score.malformed and score.lines.f1 == score.elements.f1 == 0
    with pytest.raises(FigureError):
        read_figure(text)
