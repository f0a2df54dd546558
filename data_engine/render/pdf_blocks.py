"""From pieces of text to blocks: rows, paragraphs, headings, lists, tables, captions.

All rules look at geometry and type size alone. A page on which they are unsure becomes plain text blocks: what
is written stays true, only the labels are poorer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from data_engine.markup import html_table
from data_engine.render.pdf_frames import OBLIQUE, Box, Frames
from data_engine.render.pdf_text import HYPHENS, Piece
from data_engine.render.reading_order import strips

_MARK = re.compile(r"[•‣▪◦●○∙·*–—-]|\(?[0-9]{1,2}[.)]|\(?[a-z][.)]")
_MARKED = re.compile(rf"(?:{_MARK.pattern})\s")
_IMAGE_CAPTION = re.compile(
    r"(?:fig(?:ure|ura|\.)?|abb(?:ildung|\.)|рис(?:унок|\.)|εικόνα|图|圖|図)\s*[0-9]", re.I
)
_TABLE_CAPTION = re.compile(r"(?:tab(?:le|elle|la|leau|\.)|таблица|πίνακας|表)\s*[0-9]", re.I)
_NO_BLANK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
_TABLE_FILL = 0.75  # cells leave room up to the next one; the columns of a page do not
_PAD = 0.08  # of the font size
_JOINING = 1.2  # baselines of one paragraph are no further apart than this times the usual distance


@dataclass
class TextBlock:
    """A block in points from the upper left."""

    label: str
    text: str
    """In Markdown."""
    plain: str
    left: float
    top: float
    right: float
    bottom: float
    rows: list[Row] = field(default_factory=list)
    turn: int = 0
    """How its text is turned."""


@dataclass
class Row:
    """Pieces on one baseline of one strip, in reading order."""

    pieces: list[Piece]

    def __post_init__(self) -> None:
        self.left = min(piece.left for piece in self.pieces)
        self.right = max(piece.right for piece in self.pieces)
        self.top = min(piece.top for piece in self.pieces)
        self.bottom = max(piece.bottom for piece in self.pieces)
        self.size = max(piece.size for piece in self.pieces)
        self.baseline = max(self.pieces, key=lambda piece: piece.size).baseline
        self.bold = all(piece.bold for piece in self.pieces)
        self.text = " ".join(piece.text for piece in self.pieces)


def blocks_of(pieces: Sequence[Piece], pictures: Sequence[Box], frames: Frames) -> list[TextBlock]:
    """The blocks of a page in reading order: first what runs as most of it does, last what runs across it.

    `pieces` with text, each in the frame of its turn; `pictures` and the blocks on the page as it is shown.
    """
    if not pieces:
        return []
    right_to_left = is_right_to_left("".join(piece.text for piece in pieces))
    letters = [sum(len(piece.text) for piece in pieces if piece.turn == turn) for turn in range(OBLIQUE)]
    main = letters.index(max(letters))
    blocks: list[TextBlock] = []
    for turn in sorted({main, *(piece.turn for piece in pieces)}, key=lambda turn: (turn != main, turn)):
        turned = [piece for piece in pieces if piece.turn == turn]
        if turn == OBLIQUE:
            found = [_text_block([Row([piece])]) for piece in turned]
        else:
            shown = [frames.turned(box, turn) for box in pictures if turn == main]
            turned += [Piece("", *box, is_picture=True, turn=turn) for box in shown]
            found = [
                block for strip in strips(turned, right_to_left) for block in _of_strip(strip, right_to_left)
            ]
        if turn == main:
            _label_headings(found, _body_size(turned))
        for block in found:
            block.turn = turn
            block.left, block.top, block.right, block.bottom = frames.shown(block)
        blocks += found
    return blocks


def has_overlapping_text(blocks: Sequence[TextBlock]) -> bool:
    """Whether oblique text lies over or under other blocks, so that no box holds its ink alone."""
    return any(
        min(block.right, other.right) > max(block.left, other.left)
        and min(block.bottom, other.bottom) > max(block.top, other.top)
        for block in blocks
        if block.turn == OBLIQUE
        for other in blocks
        if other is not block
    )


def is_right_to_left(text: str) -> bool:
    """Whether most letters of a text are Hebrew, Arabic and the like."""
    if _LEFTWARD.search(text) is None:
        return False
    sample = text[:2000]
    leftward = sum(unicodedata.bidirectional(character) in ("R", "AL") for character in sample)
    return leftward > 0.5 * max(1, sum(character.isalpha() for character in sample))


def joined(lines: Sequence[str]) -> str:
    """Lines of a paragraph as one: blanks between, none between Chinese letters, hyphens of line ends gone."""
    text = ""
    for line in lines:
        line = line.strip()
        if not line:
            continue
        broken = len(text) > 1 and text[-1] in "-‐" and text[-2].islower() and line[0].islower()
        if broken or (text and text[-1] in HYPHENS):
            text = text[:-1] + line
        elif text and _NO_BLANK.match(text[-1]) and _NO_BLANK.match(line[0]):
            text += line
        else:
            text = f"{text} {line}" if text else line
    for mark in HYPHENS:
        text = text.replace(mark, "-" if mark != "\xad" else "")
    return re.sub(r"\s+", " ", text)


def _body_size(pieces: Sequence[Piece]) -> float:
    """The font size that most characters have."""
    sizes: dict[float, int] = {0.0: 0}
    for piece in pieces:
        size = round(piece.size * 2) / 2
        sizes[size] = sizes.get(size, 0) + len(piece.text)
    return max(sizes, key=lambda size: (sizes[size], -size))


def _of_strip(strip: list[Piece], right_to_left: bool) -> list[TextBlock]:
    blocks: list[TextBlock] = []
    rows = _rows([piece for piece in strip if piece.text], right_to_left)
    leading, start = _leading(rows), 0
    while start < len(rows):
        table = _table_at(rows, start)
        if table:
            blocks.append(_table_block(rows[start : start + len(table)], table, right_to_left))
            start += len(table)
            continue
        end = start + 1
        while (
            end < len(rows)
            and _continues(rows[start:end], rows[end], leading, right_to_left)
            and not _table_at(rows, end)
        ):
            end += 1
        blocks.append(_text_block(rows[start:end]))
        start = end
    pictures = [piece for piece in strip if piece.is_picture]
    blocks += [TextBlock("image", "", "", p.left, p.top, p.right, p.bottom) for p in pictures]
    if pictures:
        blocks.sort(key=lambda block: block.top)
    return blocks


def _leading(rows: list[Row]) -> float:
    """The usual distance of the baselines in a strip: a low one, for the larger ones part paragraphs."""
    steps = sorted(
        below.baseline - row.baseline
        for row, below in pairwise(rows)
        if 0.8 * row.size < below.baseline - row.baseline < 2.2 * row.size
    )
    return steps[len(steps) // 4] if steps else 0.0


def _rows(pieces: Sequence[Piece], right_to_left: bool) -> list[Row]:
    """Pieces whose heights overlap by half stand in one row."""
    groups: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: (piece.top + piece.bottom) / 2):
        for group in groups[-3:]:
            first = group[0]
            shared = min(piece.bottom, first.bottom) - max(piece.top, first.top)
            if shared > 0.5 * min(piece.height, first.height):
                group.append(piece)
                break
        else:
            groups.append([piece])
    turned = -1 if right_to_left else 1
    return [Row(sorted(group, key=lambda piece: turned * piece.left)) for group in groups]


def _continues(rows: list[Row], row: Row, leading: float, right_to_left: bool) -> bool:
    """Whether `row` belongs to the block of the rows above it."""
    last, size = rows[-1], rows[0].size
    if abs(row.size - size) > 0.12 * size or row.bold != rows[0].bold:
        return False
    if not 0 < row.baseline - last.baseline < _JOINING * max(leading or 1.35 * size, size):
        return False
    listed = _MARKED.match(rows[0].text) is not None
    if _MARKED.match(row.text):
        return listed
    if listed or len(rows) < 2:
        return True
    # A row that begins further in than the rows above, and those rows do not, opens a paragraph.
    inset = last.right - row.right if right_to_left else row.left - last.left
    return inset < 0.8 * size or inset > 6 * size


def _text_block(rows: list[Row]) -> TextBlock:
    """A paragraph, or a list with one line per item."""
    items: list[list[str]] = []
    for row in rows:
        if not items or _MARKED.match(row.text):
            items.append([])
        items[-1].append(row.text)
    text = "\n".join(joined(item) for item in items)
    label = "text"
    if _IMAGE_CAPTION.match(text):
        label = "image_caption"
    elif _TABLE_CAPTION.match(text):
        label = "table_caption"
    return TextBlock(label, text, text, *_bounds(rows), rows=rows)


def _table_at(rows: list[Row], start: int) -> list[list[str]] | None:
    """The cells of the table that begins at a row, one list per row; None when there is none."""
    end = start
    while end < len(rows) and len(rows[end].pieces) > 1 and not _is_list_item(rows[end]):
        if end > start and rows[end].top - rows[end - 1].bottom > 1.6 * rows[end].size:
            break
        end += 1
    while end - start >= 2:
        columns = _columns(rows[start:end])
        if columns is not None and _is_table(rows[start:end], columns):
            return [_cells(row, columns) for row in rows[start:end]]
        end -= 1
    return None


def _is_list_item(row: Row) -> bool:
    """A mark and, behind a wide gap, its text."""
    return len(row.pieces) == 2 and _MARK.fullmatch(row.pieces[0].text) is not None


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
    filled = sum(len(row.pieces) for row in rows) / (len(rows) * len(columns))
    return median(fills) < _TABLE_FILL and filled >= 0.6


def _column_of(piece: Piece, columns: list[tuple[float, float]]) -> int:
    return next(
        place for place, (left, right) in enumerate(columns) if left <= piece.left and piece.right <= right
    )


def _cells(row: Row, columns: list[tuple[float, float]]) -> list[str]:
    cells = [""] * len(columns)
    for piece in row.pieces:
        cells[_column_of(piece, columns)] = joined([piece.text])
    return cells


def _table_block(rows: list[Row], cells: list[list[str]], right_to_left: bool) -> TextBlock:
    html = html_table([line[::-1] for line in cells] if right_to_left else cells)
    return TextBlock("table", html, html, *_bounds(rows), rows=rows)


def _bounds(rows: list[Row]) -> tuple[float, float, float, float]:
    lefts, tops = [row.left for row in rows], [row.top for row in rows]
    # A text layer tells where letters lie to a fraction of a point; what is drawn is smoothed over its edge.
    pad = _PAD * rows[0].size
    right, bottom = max(row.right for row in rows), max(row.bottom for row in rows)
    return min(lefts) - pad, min(tops) - pad, right + pad, bottom + pad


def _label_headings(blocks: list[TextBlock], body: float) -> None:
    """Short texts in larger or bolder type are headings; the largest of all, near the top, is the title."""
    found = []
    for block in blocks:
        if block.label != "text" or len(block.rows) > 3 or len(block.text) > 150 or "\n" in block.text:
            continue
        larger = block.rows[0].size > 1.12 * body
        bolder = block.rows[0].bold and not block.text.endswith((".", ",", ";")) and len(block.text) > 1
        if (larger or bolder) and any(character.isalpha() for character in block.text):
            found.append(block)
    largest = max((block.rows[0].size for block in found), default=0.0)
    for place, block in enumerate(found):
        title = place == 0 and block.rows[0].size >= max(1.35 * body, 0.999 * largest)
        block.label = "title" if title else "sub_title"
        block.text = f"{'#' if title else '##'} {block.plain}"
