"""What is called compat equals the public scripts as their behaviour is described, each written here a second time.

The second writing takes the direct way (loops, sets, every assignment) where the room takes libraries and matrices.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator

import pytest

from evaluation.figures import aggregate
from evaluation.metrics.charts_compat import score_chart_compat
from evaluation.metrics.slow_perception import Segment, merged, slow_perception_compat
from evaluation.metrics.table_tree import TableError
from evaluation.metrics.text import score_text
from evaluation.tasks import word_figures
from tests.evaluation.metrics.test_tables import html
from tests.evaluation.metrics.test_text import slow_edit_distance

edits = functools.cache(slow_edit_distance)
Rows = list[list[str]]
CHART = [["", "2023", "2024"], ["Apples", "10", "20"], ["Pears", "5.5", "1000"]]


# Fox


def test_fox_equals_the_script_over_pages() -> None:
    generator = random.Random(12)
    pages = []
    expected = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "edit": 0.0}
    for _ in range(250):
        truth, answer = (
            " ".join(
                generator.choices(["the", "The", "cat,", "cat", "sat", "1.5"], k=generator.randrange(1, 7))
            )
            for _ in "ta"
        )
        # The script hands the truth over as the prediction, and the answer as the truth.
        told, right = truth.split(), answer.split()
        precision = len([word for word in {*told} if word in right]) / len({*told})
        recall = len([word for word in {*right} if word in told]) / len({*right})
        f1 = 0.0 if precision == 0 or recall == 0 else 1 / (0.5 / precision + 0.5 / recall)
        distance = edits(truth, answer) / max(len(truth), len(answer))
        for name, value in zip(expected, (precision, recall, f1, distance), strict=True):
            expected[name] += value / 250
        figures = word_figures("page", answer, truth, fox_compat=True)
        assert figures["fox_compat_precision"] == (pytest.approx(precision), 1)
        assert figures["fox_compat_recall"] == (pytest.approx(recall), 1)
        pages.append(
            {**figures, "normalised_edit_distance": (score_text(answer, truth).normalised_edit_distance, 1.0)}
        )
    names = ("fox_compat_precision", "fox_compat_recall", "word_f1", "normalised_edit_distance")
    found = aggregate(pages, resamples=10)
    assert [found[name]["value"] for name in names] == pytest.approx([*expected.values()])


# Slow Perception


def told(segments: list[Segment]) -> str:
    lines = [f"({a}, {b}) -- ({c}, {d})" for (a, b), (c, d) in segments]
    return str({"Line": {"line": lines, "line_type": ["-"] * len(lines)}})


def random_segments(generator: random.Random, most: int) -> list[Segment]:
    """Segments on a small lattice, so that many are collinear, vertical, level, repeated or a point."""
    return [
        tuple((generator.randrange(9), generator.randrange(9)) for _ in range(2))  # type: ignore[misc]
        for _ in range(generator.randrange(most))
    ]


def collinear(one: Segment, other: Segment) -> bool:
    (ax, ay), (bx, by) = one
    return all((bx - ax) * (y - ay) == (by - ay) * (x - ax) for x, y in other)


def slow_merged(segments: list[Segment]) -> list[Segment]:
    groups: list[list[Segment]] = []
    for segment in segments:
        vertical = segment[0][0] == segment[1][0]
        for group in groups:
            other = group[0]
            if vertical and other[0][0] == other[1][0] == segment[0][0]:
                group[:] = [segment]
                break
            if not vertical and other[0][0] != other[1][0] and collinear(segment, other):
                group.append(segment)
                break
        else:
            groups.append([segment])
    lines = []
    for (start, end), *others in groups:
        ends = [point for segment in others for point in segment]
        lines.append((min([start, *ends]), max([end, *ends])))
    return lines


def slow_interval_overlap(a: float, b: float, c: float, d: float) -> float:
    """On a lattice of whole numbers the unit cells can be counted; the hull stands for the union."""
    cells = [{*range(int(min(pair)), int(max(pair)))} for pair in ((a, b), (c, d))]
    hull = range(int(min(a, b, c, d)), int(max(a, b, c, d)))
    return len(cells[0] & cells[1]) / len(hull) if hull else 0.0


def slow_f1(predicted: list[Segment], true: list[Segment]) -> float:
    taken: set[int] = set()
    for (ax, ay), (bx, by) in predicted:
        ranked = [
            (-(slow_interval_overlap(ax, bx, cx, dx) + slow_interval_overlap(ay, by, cy, dy)) / 2, place)
            for place, ((cx, cy), (dx, dy)) in enumerate(true)
            if place not in taken
        ]
        if ranked and -min(ranked)[0] > 0.75:
            taken.add(min(ranked)[1])
    # Twice the matches over both numbers is the harmonic mean of precision and recall.
    return 2 * len(taken) / (len(predicted) + len(true)) if predicted or true else 0.0


def length_squared(segment: Segment) -> float:
    (ax, ay), (bx, by) = segment
    return (ax - bx) ** 2 + (ay - by) ** 2


def test_slow_perception_equals_the_script() -> None:
    generator = random.Random(3)
    matched = 0
    for _ in range(220):
        predicted, true = random_segments(generator, 6), random_segments(generator, 5)
        for segment in true:  # some that are nearly right, or told in two pieces
            (ax, ay), (bx, by) = segment
            kind = generator.randrange(4)
            if kind == 0:
                predicted.append(((ax, ay), (bx, by - 1)))
            elif kind == 1 and (bx - ax) % 2 == (by - ay) % 2 == 0:
                middle = ((ax + bx) // 2, (ay + by) // 2)
                predicted += [((ax, ay), middle), (middle, (bx, by))]
        generator.shuffle(predicted)
        assert merged(predicted) == slow_merged(predicted)
        score = slow_perception_compat(told(predicted), told(true))
        lines = slow_merged(predicted)
        assert score["all"].f1 == pytest.approx(slow_f1(lines, true))
        for part, is_long in ((score["short"], False), (score["long"], True)):
            chosen = [[s for s in side if (length_squared(s) >= 64) == is_long] for side in (lines, true)]
            assert part.f1 == pytest.approx(slow_f1(*chosen))
        matched += score["all"].f1 > 0
    assert 40 < matched < 220


def test_the_published_defects_of_slow_perception() -> None:
    def f1(predicted: list[Segment], true: list[Segment]) -> float:
        return slow_perception_compat(told(predicted), told(true))["all"].f1

    level, upright, slanted = ((0, 0), (9, 0)), ((0, 0), (0, 9)), ((0, 0), (9, 9))
    assert f1([slanted], [slanted]) == 1
    assert f1([level], [level]) == f1([upright], [upright]) == 0
    assert f1([((0, 3), (3, 0))], [((0, 0), (3, 3))]) == 1  # the diagonals of a box
    assert f1([((0, 0), (1, 1)), ((8, 8), (9, 9))], [slanted]) == 1  # a gap between them
    assert merged([((0, 0), (0, 4)), ((0, 4), (0, 9))]) == [((0, 4), (0, 9))]
    assert merged([((6, 6), (0, 0)), ((2, 2), (4, 4))]) == [((2, 2), (4, 4))]
    assert f1([((0, 0), (3, 3))], [((0, 0), (4, 4))]) == 0  # 0.75 is not above 0.75
    assert f1([], []) == f1([slanted], []) == f1([], [slanted]) == 0
    both = slow_perception_compat(told([slanted]), told([slanted]))
    assert (both["short"].f1, both["long"].f1) == (0, 1)
    assert slow_perception_compat("no figure", told([slanted]))["all"].f1 == 0


# Charts


def random_rows(generator: random.Random) -> Rows:
    """A small table with repeated names, units, texts, empty cells and numbers near each other."""

    def name() -> str:
        return "".join(generator.choices("aAb", k=generator.randrange(1, 4))) + generator.choice(
            ("", "", ":")
        )

    def cell() -> str:
        number = str(generator.randrange(95, 105))
        return generator.choice((number, number, number, f"{number}%", f"${number}", "0", "", "n/a", "1-2"))

    columns = generator.randrange(1, 3)
    rows = [["", *(name() for _ in range(columns))]]
    return rows + [[name(), *(cell() for _ in range(columns))] for _ in range(generator.randrange(1, 3))]


def nearly(rows: Rows, generator: random.Random) -> Rows:
    """The table misread: letters and digits changed, a row twice or missing, or transposed."""
    read = [
        [
            c.replace("a", "b") if generator.random() < 0.2 else c.replace("9", "8", generator.randrange(2))
            for c in row
        ]
        for row in rows
    ]
    kind = generator.randrange(5)
    if kind == 0:
        return [list(column) for column in zip(*read, strict=True)]
    if kind == 1:
        return [*read, read[-1]]
    return read[:-1] if kind == 2 and len(read) > 2 else read


def random_charts(count: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    generator = random.Random(seed)
    for number in range(count):
        true = random_rows(generator)
        yield (random_rows(generator) if number % 3 == 0 else nearly(true, generator)), true


@functools.cache
def similarity(left: str, right: str) -> float:
    away = edits(left, right) / max(len(left), len(right))
    return 1 - away if away <= 0.5 else 0.0


def as_number(text: str) -> float | None:
    divisor = 100 if text.endswith("%") else 1
    try:
        return float(text.rstrip("%")) / divisor
    except ValueError:
        return None


@functools.cache
def worth(told: tuple[str, str], right: tuple[str, str]) -> float:
    left, true = as_number(told[1]), as_number(right[1])
    if left is not None and true is not None and true != 0:
        off = abs(true - left) / abs(true)
        value = 1 - off if off < 0.1 else 0.0
    else:
        value = 1.0 if told[1] == right[1] else similarity(told[1], right[1])
    return similarity(told[0], right[0]) * value


def mappings(predicted: Rows, true: Rows) -> list[tuple[float, float]]:
    """(precision, recall) of every assignment that is the nearest one by names."""
    sides = []
    for rows in (predicted, true):
        points = {}
        for row in rows[1:]:
            for column, cell in list(zip(rows[0], row, strict=True))[1:]:
                points[f"{row[0]} {column}".lower()] = cell.lower()
        sides.append(list(points.items()))
    told, right = sides
    if not told or not right:
        return [(float(not told), float(not right))]
    shorter, longer = sorted((told, right), key=len)
    ranked = []
    for chosen in itertools.permutations(longer, len(shorter)):
        pairs = (
            [*zip(shorter, chosen, strict=True)] if shorter is told else [*zip(chosen, shorter, strict=True)]
        )
        cost = sum(1 - similarity(p[0], t[0]) for p, t in pairs)
        ranked.append((cost, sum(worth(p, t) for p, t in pairs)))
    least = min(cost for cost, _ in ranked)
    return [(sum_ / len(told), sum_ / len(right)) for cost, sum_ in ranked if cost < least + 1e-9]


def f1(pair: tuple[float, float]) -> float:
    return 2 * pair[0] * pair[1] / sum(pair) if sum(pair) else 0.0


@pytest.mark.slow
def test_rms_equals_the_script() -> None:
    decided = 0
    for predicted, true in random_charts(250, seed=4):
        straight = mappings(predicted, true)
        turned = mappings([list(column) for column in zip(*predicted, strict=True)], true)
        # Where several assignments are equally near, the script takes one of them: so do we.
        possible = [
            max(pair, key=f1) for pair in itertools.product(dict.fromkeys(turned), dict.fromkeys(straight))
        ]
        ours = score_chart_compat(html(predicted), html(true)).rms
        assert any((ours.precision, ours.recall) == pytest.approx(pair) for pair in possible)
        decided += len({round(f1(pair), 9) for pair in possible}) == 1
    assert decided > 200


def points(rows: Rows) -> list[list]:
    found = []
    for row in rows[1:]:
        for column, cell in list(zip(rows[0], row, strict=True))[1:]:
            if cell:
                kept = "".join(c for c in cell if c.isdigit() or c in ".-")
                value = as_number(kept)
                name = "value" if len(row) == 2 else column.removesuffix(":").lower()
                found.append([row[0].removesuffix(":").lower(), name, kept if value is None else value])
    return found


def slow_scrm(predicted: Rows, true: Rows, most: int, relative: float) -> float:
    told, right = points(predicted), points(true)
    for p, t in zip(told, right, strict=False):
        if t[1] == "value" and "value" not in p[:2]:
            p[1] = "value"
        p[:2], t[:2] = sorted(p[:2]), sorted(t[:2])
    left, other = {tuple(p) for p in told}, {tuple(t) for t in right}
    if not left or not other:
        return float(left == other)
    soft = set()
    for p in left:
        for t in other:
            names = p[0] + p[1], t[0] + t[1]
            if isinstance(p[2], float) and isinstance(t[2], float):
                alike = edits(*names) <= most or names[0] in names[1] or names[1] in names[0]
                if alike and abs(p[2] - t[2]) / (abs(t[2]) + 1e-6) <= relative:
                    soft.add(p)
            elif edits(f"{names[0]}{p[2]}", f"{names[1]}{t[2]}") <= most:
                soft.add(p)
    return len(soft) / len((left | other) - (soft - (left & other)))


@pytest.mark.slow
def test_scrm_equals_the_script() -> None:
    tolerances = {"strict": (0, 0.0), "slight": (2, 0.05), "high": (5, 0.1)}
    seen = set()
    for predicted, true in random_charts(250, seed=9):
        ours = score_chart_compat(html(predicted), html(true)).scrm
        for name, tolerance in tolerances.items():
            score = slow_scrm(predicted, true, *tolerance)
            # The script counts in steps of 0.55 - 0.5, which is a little more than 0.05.
            expected = sum(score >= 0.5 + step * (0.55 - 0.5) for step in range(10)) / 10
            assert ours[name] == pytest.approx(expected), (predicted, true)
            seen.add(round(score, 2))
    assert len(seen) > 8


def test_degenerate_charts_and_the_published_defects() -> None:
    ones = dict.fromkeys(("strict", "slight", "high"), 1.0)
    for prediction in (CHART, [list(column) for column in zip(*CHART, strict=True)], [*CHART, CHART[2]]):
        score = score_chart_compat(html(prediction), html(CHART))
        assert (score.rms.f1, score.rms.recall) == (1.0, 1.0)  # a row that stands there twice is lost
    assert score_chart_compat(html(CHART), html(CHART)).scrm == ones
    # Repeated points are one, where their names stand in alphabetical order from the beginning.
    ordered = [["", "x", "y"], ["a", "10", "20"], ["b", "30", "40"]]
    assert score_chart_compat(html([*ordered, ordered[2]]), html(ordered)).scrm == ones
    assert score_chart_compat(html([*CHART, CHART[2]]), html(CHART)).scrm["strict"] == pytest.approx(
        0.4
    )  # 4 of 6
    disjoint = score_chart_compat(html([["", "x"], ["y", "7"]]), html(CHART))
    assert (disjoint.rms.f1, disjoint.scrm["strict"]) == (0, 0)
    for nothing in ("", "no table", html([["", "x"]])):
        score = score_chart_compat(nothing, html(CHART))
        assert (score.rms.precision, score.rms.recall, max(score.scrm.values())) == (1, 0, 0)
    empty = score_chart_compat(html(CHART), html([["", "x"]]))
    assert (empty.rms.precision, empty.rms.recall, empty.scrm["high"]) == (0, 1, 0)
    with pytest.raises(TableError):
        score_chart_compat(html(CHART), "no table")
    # A part of a name is enough and units are lost; both are wrong in the sound figures.
    part = [["", "2023", "2024"], ["App", "$10", "20%"], ["Pears", "5.5", "1000"]]
    assert score_chart_compat(html(part), html(CHART)).scrm == ones
    # Three of five points: the script's threshold of 0.6 is a little above 0.6.
    five = [["", "v"], *([letter * 9, str(10**place)] for place, letter in enumerate("pqrst"))]
    three = [["", "v"], *five[1:4]]
    assert score_chart_compat(html(three), html(five)).scrm["strict"] == pytest.approx(0.2)
