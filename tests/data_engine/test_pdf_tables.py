"""Tables of real pages: cells of several lines, and what looks like a table and is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import html

from tests.data_engine.pdfs import column, text_at
from tests.data_engine.test_pdf import LEFT, blocks_of

PLACES = (0, 90, 260)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def grid(rows: list[list[str]]) -> str:
    return column(72, 80, LEFT[:5]) + "".join(
        text_at(72 + PLACES[place], 190 + 14 * number, cell, 10)
        for number, row in enumerate(rows)
        for place, cell in enumerate(row)
        if cell
    )


def cells(text: str) -> list[list[str]]:
    return [[cell.text or "" for cell in row] for row in html.fromstring(text)]


def test_cells_of_several_lines_stay_in_their_table(tmp_path: Path) -> None:
    rows = [
        ["Item", "Description", "Price"],
        ["Pump", "a pump for water with", "120"],
        ["", "two pipes and a self-", ""],
        ["", "closing valve", ""],
        ["Hose", "a hose of ten metres", "35"],
        ["Tap", "a tap of brass which", "12"],
        ["", "does not drip", ""],
    ]
    text, table = blocks_of(tmp_path, grid(rows))
    assert (text.label, table.label) == ("text", "table")
    assert cells(table.text) == [
        ["Item", "Description", "Price"],
        ["Pump", "a pump for water with two pipes and a self-closing valve", "120"],
        ["Hose", "a hose of ten metres", "35"],
        ["Tap", "a tap of brass which does not drip", "12"],
    ]


def test_rows_without_a_first_cell_are_rows(tmp_path: Path) -> None:
    rows = [
        ["Country", "City", "People"],
        ["France", "Paris", "210"],
        ["", "Lyon", "52"],
        ["Spain", "Madrid", "330"],
    ]
    _, table = blocks_of(tmp_path, grid(rows))
    assert cells(table.text) == rows


def test_a_paragraph_below_a_table_is_no_cell(tmp_path: Path) -> None:
    rows = [["Item", "Weight", "Price"], ["Pump", "12", "120"], ["Hose", "4", "35"]]
    blocks = blocks_of(tmp_path, grid(rows) + column(72, 232, LEFT[:3], 10, 14))
    assert [block.label for block in blocks] == ["text", "table", "text"]
    assert cells(blocks[1].text) == rows


def test_numbers_of_lines_make_no_table(tmp_path: Path) -> None:
    """Copies for review count their lines in the margin; a table that counts its rows has more columns."""
    lines = [f"line {number} of an article under review goes on here" for number in range(20)]
    content = "".join(
        text_at(50, 80 + 13 * number, f"{number + 1:03d}", 7) + text_at(80, 80 + 13 * number, line, 10)
        for number, line in enumerate(lines)
    )
    blocks = blocks_of(tmp_path, content)
    assert {block.label for block in blocks} == {"text"}
    assert "line 0 of an article under review goes on here" in blocks[0].text
    rows = [["1", "apple", "120"], ["2", "pear", "98"], ["3", "fig", "4"]]
    assert cells(blocks_of(tmp_path, grid(rows))[1].text) == rows
