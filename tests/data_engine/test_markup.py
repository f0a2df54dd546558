from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html

from data_engine.markup import Block, grid_box, html_table, parse_grounded, write_grounded

_SIDE = st.integers(0, 999)
_BOX = st.tuples(_SIDE, _SIDE, _SIDE, _SIDE).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<|>\r\x85\u2028\u2029"), max_size=40).map(
    str.strip
)
_BLOCK = st.builds(Block, st.sampled_from(["title", "text", "image"]), st.tuples(_BOX), _TEXT)


@settings(max_examples=40)
@given(st.lists(_BLOCK, max_size=5))
def test_markup_is_read_back(blocks: list[Block]) -> None:
    assert parse_grounded(write_grounded(blocks)) == blocks


def test_markup_is_written_as_the_paper_shows_it() -> None:
    blocks = [Block("text", ((55, 43, 130, 60),), "2. način:"), Block("image", ((70, 93, 450, 360),), "")]
    assert write_grounded(blocks) == (
        "<|ref|>text<|/ref|><|det|>[[55, 43, 130, 60]]<|/det|>\n2. način:\n\n"
        "<|ref|>image<|/ref|><|det|>[[70, 93, 450, 360]]<|/det|>"
    )


@pytest.mark.parametrize(
    "boxes",
    ["[[1, 2, 3]]", "[]", "[[5, 2, 3, 4]]", "[[1, 2, 3, 1000]]", "[[1, 2, 3, 4.5]]", "__import__('os')", "3"],
)
def test_what_is_no_box_is_refused(boxes: str) -> None:
    with pytest.raises(ValueError, match="box"):
        parse_grounded(f"<|ref|>text<|/ref|><|det|>{boxes}<|/det|>\nwords")


@settings(max_examples=40)
@given(st.floats(0, 700), st.floats(0, 900), st.floats(1, 90), st.floats(1, 90))
def test_a_box_on_the_grid_holds_the_box_in_pixels(x: float, y: float, width: float, height: float) -> None:
    left, top, right, bottom = grid_box((x, y, x + width, y + height), 800, 1000)
    assert left / 999 * 800 <= x + 1e-9
    assert right / 999 * 800 >= x + width - 1e-9
    assert top / 999 * 1000 <= y + 1e-9
    assert bottom / 999 * 1000 >= y + height - 1e-9
    assert right - left <= width / 800 * 999 + 2


@settings(max_examples=40)
@given(st.lists(st.lists(_TEXT, min_size=2, max_size=2), min_size=1, max_size=4))
def test_tables_are_read_back(rows: list[list[str]]) -> None:
    rows = [[cell.replace("\0", "").replace("\n", " ") for cell in row] for row in rows]
    rows = [["a & b < c", *row] for row in rows if all(cell.isprintable() for cell in row)]
    if rows:
        table = html.fromstring(html_table(rows))
        assert [[cell.text or "" for cell in row] for row in table] == rows
