"""Tables in a strip of rows, found by their columns."""

from __future__ import annotations

import re
from itertools import pairwise
from statistics import median

from data_engine.render.pdf_rows import LIST_MARK, Row
from data_engine.render.pdf_text import Piece
from data_engine.render.pdf_words import Words
from data_engine.render.reading_order import LEAST_COLUMN

_TABLE_FILL = 0.75  # cells leave room up to the next one; the columns of a page do not
_ROW_LEADING = 1.6  # font sizes: lines of a cell are no further apart
_NUMBER = re.compile(r"[+−-]?[0-9][0-9.,]*%?")


def table_at(rows: list[Row], start: int, words: Words) -> tuple[list[list[str]], int] | None:
    """The cells of the table that begins at a row, and the row behind its last; None when there is none."""
    lines: list[list[Row]] = []  # a row of the table, and the rows that its cells go on in
    end = start
    while end < len(rows) and not _is_list_item(rows[end]):
        row = rows[end]
        if lines and row.top - rows[end - 1].bottom > 1.6 * row.size:
            break
        if lines and _goes_on(lines[-1], row):
            lines[-1].append(row)
        elif len(row.pieces) > 1:
            lines.append([row])
        else:
            break
        end += 1
    while len(lines) >= 2:
        columns = _columns([row for line in lines for row in line])
        if columns is not None and _is_table([line[0] for line in lines], columns):
            return [_cells(line, columns, words) for line in lines], end
        end -= len(lines.pop())
    return None


def _goes_on(line: list[Row], row: Row) -> bool:
    """Whether a row holds the next lines of one cell above it, or of some, but not of the first.

    A row with numbers, or with all cells but the first, is a row of the table itself.
    """
    first, above = line[0].pieces, line[-1]
    if len(first) < 2 or len(row.pieces) > max(1, len(first) - 2) or row.bold != above.bold:
        return False
    if (
        not 0 < row.baseline - above.baseline < _ROW_LEADING * row.size
        or abs(row.size - above.size) > 0.12 * row.size
    ):
        return False
    return all(
        not _NUMBER.fullmatch(piece.text)
        and any(abs(cell.left - piece.left) < 0.5 * row.size for cell in first[1:])
        for piece in row.pieces
    )


def _is_list_item(row: Row) -> bool:
    """A mark and, behind a wide gap, its text."""
    return len(row.pieces) == 2 and LIST_MARK.fullmatch(row.pieces[0].text) is not None


def _columns(rows: list[Row]) -> list[tuple[float, float]] | None:
    """The columns as spans; None when two pieces of a row would share one."""
    spans = sorted((piece.left, piece.right) for row in rows for piece in row.pieces)
    columns = [spans[0]]
    for left, right in spans[1:]:
        if left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    for row in rows:
        places = [_column_of(piece, columns) for piece in row.pieces]
        if len(set(places)) < len(places):
            return None
    return columns


def _is_table(rows: list[Row], columns: list[tuple[float, float]]) -> bool:
    if len(columns) < 2 or (len(columns) == 2 and len(rows) < 3):
        return False
    fills = [
        piece.width / (columns[place + 1][0] - columns[place][0])
        for row in rows
        for piece in row.pieces
        if (place := _column_of(piece, columns)) + 1 < len(columns)
    ]
    if len(columns) == 2 and _are_line_numbers([row.pieces[0] for row in rows], rows[0].size):
        return False
    filled = sum(len(row.pieces) for row in rows) / (len(rows) * len(columns))
    return median(fills) < _TABLE_FILL and filled >= 0.6


def _column_of(piece: Piece, columns: list[tuple[float, float]]) -> int:
    return next(
        place for place, (left, right) in enumerate(columns) if left <= piece.left and piece.right <= right
    )


def _are_line_numbers(cells: list[Piece], size: float) -> bool:
    """Whether a narrow column counts the lines of a text, as in copies for review."""
    texts = [cell.text for cell in cells]
    if max(cell.width for cell in cells) >= LEAST_COLUMN * size or not all(map(str.isdecimal, texts)):
        return False
    return all(int(below) == int(above) + 1 for above, below in pairwise(texts))


def _cells(line: list[Row], columns: list[tuple[float, float]], words: Words) -> list[str]:
    cells: list[list[str]] = [[] for _ in columns]
    for row in line:
        for piece in row.pieces:
            cells[_column_of(piece, columns)].append(piece.text)
    return [words.joined(cell) for cell in cells]
