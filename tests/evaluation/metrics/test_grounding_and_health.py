from __future__ import annotations

import itertools
import random

import pytest

from evaluation.metrics.grounding import Box, iou, read_boxes, score_grounding
from evaluation.metrics.health import ends_in_a_loop, loop_length
from evaluation.postprocess import VERSIONS


def span(label: str, *boxes: tuple[int, int, int, int]) -> str:
    return f"<|ref|>{label}<|/ref|><|det|>{[list(box) for box in boxes]}<|/det|>\n"


def cells(box: Box) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = box.corners
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def random_boxes(generator: random.Random) -> list[Box]:
    boxes = []
    for _ in range(generator.randrange(1, 5)):
        (x1, x2), (y1, y2) = (sorted(generator.choices(range(7), k=2)) for _ in range(2))
        boxes.append(Box("text", (x1, y1, x2, y2)))
    return boxes


def test_grounding_equals_counting_cells_and_trying_every_assignment() -> None:
    generator = random.Random(6)
    for _ in range(200):
        predicted, true = random_boxes(generator), random_boxes(generator)
        table = {}
        for i, p in enumerate(predicted):
            for j, t in enumerate(true):
                union = cells(p) | cells(t)
                table[i, j] = len(cells(p) & cells(t)) / len(union) if union else 0.0
                assert iou([p], [t])[0, 0] == pytest.approx(table[i, j])
        short, long = sorted((range(len(predicted)), range(len(true))), key=len)
        turned = len(predicted) > len(true)
        best = max(
            sum(table[(j, i) if turned else (i, j)] for i, j in zip(short, chosen, strict=True))
            for chosen in itertools.permutations(long, len(short))
        )
        texts = ["".join(span("text", box.corners) for box in boxes) for boxes in (predicted, true)]
        assert score_grounding(*texts).mean_iou == pytest.approx(best / len(true))


def test_known_groundings() -> None:
    truth = span("title", (0, 0, 100, 100)) + "Text" + span("text", (0, 200, 100, 300), (0, 400, 100, 500))
    assert score_grounding(truth, truth).boxes.f1 == score_grounding(truth, truth).mean_iou == 1.0
    half = score_grounding(truth.replace("0, 0, 100, 100", "0, 0, 50, 100"), truth)
    assert (half.boxes.f1, half.mean_iou) == (1.0, pytest.approx(2.5 / 3))
    other = score_grounding(truth.replace("title", "image"), truth)
    assert (other.boxes.precision, other.mean_iou) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert score_grounding("", "").mean_iou == score_grounding("", "").boxes.f1 == 1.0
    assert score_grounding(truth, "").boxes.f1 == score_grounding("", truth).mean_iou == 0.0


@pytest.mark.parametrize(
    "coordinates",
    [
        "[[1, 2, 3]]",
        "[[a, b, c, d]]",
        "[[5, 5, 1, 1]]",
        "",
        "[[1, 2, 3, 4], x]",
        "__import__('os')",
        "[" * 100_000,
    ],
)
def test_boxes_that_cannot_be_read_are_counted_as_wrong(coordinates: str) -> None:
    text = f"<|ref|>text<|/ref|><|det|>{coordinates}<|/det|>"
    assert read_boxes(text) == ([], 1)
    score = score_grounding(text + span("text", (0, 0, 9, 9)), span("text", (0, 0, 9, 9)))
    assert (score.boxes.precision, score.malformed, score.mean_iou) == (0.5, 1, 1.0)


def slow_loop(text: str) -> int:
    """The longest suffix that repeats a piece, by comparing characters one by one."""
    longest = 0
    for piece in range(1, 201):
        length = piece
        while length < len(text) and text[-length - 1] == text[-length - 1 + piece]:
            length += 1
        if length >= 8 * piece and length >= 60:
            longest = max(longest, length)
    return longest


def test_loops_equal_a_plain_search() -> None:
    generator = random.Random(8)
    for _ in range(300):
        piece = "".join(generator.choices("ab ", k=generator.randrange(1, 12))) + "c"
        text = (
            "".join(generator.choices("abc", k=20))
            + piece * generator.randrange(12)
            + piece[: generator.randrange(3)]
        )
        assert loop_length(text) == slow_loop(text.rstrip())


def test_a_loop_is_unhealthy_unless_the_page_has_it() -> None:
    row = "<tr><td>1</td><td>2</td></tr>"
    assert ends_in_a_loop("A page. " + row * 9, "A page.")
    assert not ends_in_a_loop("A page. " + row * 7, "A page.")
    assert ends_in_a_loop("Contents" + "." * 60, "Contents ... 1")
    assert not ends_in_a_loop("Contents" + "." * 59, "Contents")
    assert not ends_in_a_loop("x" * 100, "x" * 90)
    assert not ends_in_a_loop("", "")


def test_released_post_processing() -> None:
    answer = (
        "<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# Title\n\n\n  \n"
        "<|ref|>image_caption<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n<center>Figure 1</center>  \n\n"
        "\\[a \\coloneqq b \\quad (3)\\]<｜end▁of▁sentence｜>"
    )
    assert VERSIONS["released"](answer) == "# Title\n\n<>Figure 1  \n\n\\[a := b \\]".replace("<>", "")
    assert VERSIONS["raw"](answer) == answer
    assert VERSIONS["released"]("") == ""
