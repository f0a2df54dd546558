"""In which order a page is read: text turned to the side, across the page, full width above columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_engine.markup import parse_grounded
from tests.data_engine.pdfs import column, text_at, turned_text, write_pdf
from tests.data_engine.test_pdf import LEFT, RIGHT, TITLE, boxes_in_pixels, gray_pixels, read, two_columns

STAMP = "arXiv:2510.18234v1 [cs.CV] 21 Oct 2025"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def told(directory: Path, content: str, grounding: float = 0.0, **options: int) -> list[str]:
    """The blocks of a page in a coarse answer."""
    write_pdf(directory / "page.pdf", [content], **options)
    return read(directory, grounding).response.split("\n\n")


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_text_up_the_margin_is_read_last_and_has_its_own_box(tmp_path: Path, rotate: int) -> None:
    content = two_columns() + turned_text(34, 500, STAMP, 90, size=20)
    expected = [TITLE, " ".join(LEFT), " ".join(RIGHT), STAMP]
    assert told(tmp_path, content, rotate=rotate) == expected
    rendered = read(tmp_path, 1.0, jpeg_quality=None)
    boxes = boxes_in_pixels(rendered)
    assert [block.text for block, _ in boxes] == [f"# {TITLE}", *expected[1:]]
    ink, (left, top, right, bottom) = gray_pixels(rendered) < 200, boxes[-1][1]
    for _, other in boxes[:-1]:
        assert min(right, other[2]) <= max(left, other[0]) or min(bottom, other[3]) <= max(top, other[1])
    assert ink[top:bottom, left:right].sum() > 500


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_set_sideways_is_read_as_if_it_stood_upright(tmp_path: Path, degrees: int) -> None:
    first = {90: (200, 700), 180: (500, 500), 270: (400, 100)}[degrees]
    step = {90: (13, 0), 180: (0, -13), 270: (-13, 0)}[degrees]
    lines = "".join(
        turned_text(first[0] + place * step[0], first[1] + place * step[1], line, degrees, size=10)
        for place, line in enumerate(LEFT)
    )
    assert told(tmp_path, lines) == [" ".join(LEFT)]


def test_text_across_the_page_is_read_last_and_gets_no_box(tmp_path: Path) -> None:
    """The picture shows it, so the label tells it; but no box holds its ink alone."""
    mark = "0.8 g " + turned_text(150, 600, "CONFIDENTIAL", 45, size=60, font="F2")
    content = column(72, 80, LEFT * 3)
    assert told(tmp_path, content + mark, grounding=1.0) == [" ".join(LEFT * 3), "CONFIDENTIAL"]
    assert read(tmp_path, 1.0).prompt == "<image>\nFree OCR."
    aside = turned_text(420, 700, "tilted", 30)
    told(tmp_path, content + aside)
    assert [block.text for block in parse_grounded(read(tmp_path, 1.0).response)][1:] == ["tilted"]


def test_letters_that_turn_within_a_line_are_parted(tmp_path: Path) -> None:
    content = column(72, 80, LEFT) + text_at(72, 300, "upright") + turned_text(118, 300, "upward", 90)
    assert told(tmp_path, content)[-2:] == ["upright", "upward"]


@pytest.mark.parametrize("lines", [3, 14, 26])
def test_columns_below_much_text_of_full_width_are_columns(tmp_path: Path, lines: int) -> None:
    wide = [
        f"line {n} goes across both of the columns from the left edge to the right edge" for n in range(lines)
    ]
    top = 120 + 13 * lines
    left, right = (
        [f"{side} {n} goes on to the edge of its column and ends" for n in range(18)]
        for side in ("left", "right")
    )
    content = column(60, 100, wide, 12) + column(60, top, left) + column(310, top, right)
    assert told(tmp_path, content) == [" ".join(wide), " ".join(left), " ".join(right)]
