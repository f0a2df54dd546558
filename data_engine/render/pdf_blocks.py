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

from data_engine.markup import html_table
from data_engine.render.pdf_frames import OBLIQUE, Box, Frames
from data_engine.render.pdf_rows import LIST_MARK, Row, rows_of
from data_engine.render.pdf_tables import table_at
from data_engine.render.pdf_text import Piece
from data_engine.render.pdf_words import Words
from data_engine.render.reading_order import strips

_MARKED = re.compile(rf"(?:{LIST_MARK.pattern})\s")
_IMAGE_CAPTION = re.compile(
    r"(?:fig(?:ure|ura|\.)?|abb(?:ildung|\.)|рис(?:унок|\.)|εικόνα|图|圖|図)\s*[0-9]", re.I
)
_TABLE_CAPTION = re.compile(r"(?:tab(?:le|elle|la|leau|\.)|таблица|πίνακας|表)\s*[0-9]", re.I)
_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
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


def blocks_of(pieces: Sequence[Piece], pictures: Sequence[Box], frames: Frames) -> list[TextBlock]:
    """The blocks of a page in reading order: first what runs as most of it does, last what runs across it.

    `pieces` with text, each in the frame of its turn; `pictures` and the blocks on the page as it is shown.
    """
    if not pieces:
        return []
    right_to_left = is_right_to_left("".join(piece.text for piece in pieces))
    words = Words(pieces)
    letters = [sum(len(piece.text) for piece in pieces if piece.turn == turn) for turn in range(OBLIQUE)]
    main = letters.index(max(letters))
    blocks: list[TextBlock] = []
    for turn in sorted({main, *(piece.turn for piece in pieces)}, key=lambda turn: (turn != main, turn)):
        turned = [piece for piece in pieces if piece.turn == turn]
        if turn == OBLIQUE:
            found = [_text_block([Row([piece])], words) for piece in turned]
        else:
            shown = [frames.turned(box, turn) for box in pictures if turn == main]
            turned += [Piece("", *box, is_picture=True, turn=turn) for box in shown]
            found = [
                block
                for strip in strips(turned, right_to_left)
                for block in _of_strip(strip, right_to_left, words)
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


def _body_size(pieces: Sequence[Piece]) -> float:
    """The font size that most characters have."""
    sizes: dict[float, int] = {0.0: 0}
    for piece in pieces:
        size = round(piece.size * 2) / 2
        sizes[size] = sizes.get(size, 0) + len(piece.text)
    return max(sizes, key=lambda size: (sizes[size], -size))


def _of_strip(strip: list[Piece], right_to_left: bool, words: Words) -> list[TextBlock]:
    blocks: list[TextBlock] = []
    rows = rows_of([piece for piece in strip if piece.text], right_to_left)
    leading, start = _leading(rows), 0
    while start < len(rows):
        table = table_at(rows, start, words)
        if table:
            cells, end = table
            blocks.append(_table_block(rows[start:end], cells, right_to_left))
            start = end
            continue
        end = start + 1
        while (
            end < len(rows)
            and _continues(rows[start:end], rows[end], leading, right_to_left)
            and not table_at(rows, end, words)
        ):
            end += 1
        blocks.append(_text_block(rows[start:end], words))
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


def _text_block(rows: list[Row], words: Words) -> TextBlock:
    """A paragraph, or a list with one line per item."""
    items: list[list[str]] = []
    for row in rows:
        if not items or _MARKED.match(row.text):
            items.append([])
        items[-1].append(row.text)
    text = "\n".join(words.joined(item) for item in items)
    label = "text"
    if _IMAGE_CAPTION.match(text):
        label = "image_caption"
    elif _TABLE_CAPTION.match(text):
        label = "table_caption"
    return TextBlock(label, text, text, *_bounds(rows), rows=rows)


def _table_block(rows: list[Row], cells: list[list[str]], right_to_left: bool) -> TextBlock:
    """A table, as HTML in either answer: rows of text would not tell its empty cells, and pages of our own do so."""
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
