"""Grounding markup: blocks of a page with a label and a box, as the released model writes them.

    <|ref|>title<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>
    # The title

    <|ref|>image<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>

Coordinates are whole numbers from 0 to 999: the share of the picture's width and height, times 999 (paper,
figure 5; the released demo divides by 999). Asked to "OCR this image", the model names the texts themselves, one
reference per line, with nothing below:

    <|ref|>Northern Market<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>

Labels seen there: title, sub_title, text, image, image_caption,
table, table_caption, equation. Tables are plain HTML, formulas LaTeX between `\\[` and `\\]`.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GRID = 999
DET = "<|det|>"
_HEAD = re.compile(r"<\|ref\|>(.*?)<\|/ref\|><\|det\|>(.*?)<\|/det\|>", re.DOTALL)

GridBox = tuple[int, int, int, int]
"""(left, top, right, bottom) on the grid 0 to 999."""


@dataclass(frozen=True)
class Block:
    """One region of a page."""

    label: str
    """"title", "sub_title", "text", "image", "image_caption", "table", "table_caption", "equation"; the text itself
    where a line of text is referred to."""
    boxes: tuple[GridBox, ...]
    """Where it stands; nearly always one."""
    text: str
    """Its content in Markdown; empty for an image or a reference."""


def grid_box(box: Sequence[float], width: float, height: float) -> GridBox:
    """The smallest box on the grid that holds the pixel box (left, top, right, bottom), edges included."""
    left, top, right, bottom = box
    low = (math.floor(left / width * GRID), math.floor(top / height * GRID))
    high = (math.ceil(right / width * GRID), math.ceil(bottom / height * GRID))
    return max(0, low[0]), max(0, low[1]), min(GRID, high[0]), min(GRID, high[1])


def write_grounded(blocks: Iterable[Block]) -> str:
    """The markup of blocks in reading order."""
    return "\n\n".join(f"{_head(block)}\n{block.text}" for block in blocks).rstrip("\n")


def write_references(blocks: Iterable[Block]) -> str:
    """The markup of blocks without content, one per line: texts where they stand. `parse_grounded` reads it, too."""
    return "\n".join(_head(block) for block in blocks)


def _head(block: Block) -> str:
    return f"<|ref|>{block.label}<|/ref|>{DET}{json.dumps([list(box) for box in block.boxes])}<|/det|>"


def parse_grounded(text: str) -> list[Block]:
    """The blocks of a markup text, the inverse of `write_grounded`; what stands before the first is left out.

    Raises ValueError when a box is not a list of four whole numbers from 0 to 999 in order.
    """
    heads = list(_HEAD.finditer(text))
    blocks = []
    for place, head in enumerate(heads):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(text)
        blocks.append(Block(head[1], _parse_boxes(head[2]), text[head.end() : end].strip()))
    return blocks


def _parse_boxes(text: str) -> tuple[GridBox, ...]:
    try:
        boxes = json.loads(text)
        parsed = tuple((box[0], box[1], box[2], box[3]) for box in boxes if len(box) == 4)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{text!r} is not a list of boxes") from error
    for box in parsed:
        numbers = all(type(value) is int and 0 <= value <= GRID for value in box)
        if not numbers or box[0] > box[2] or box[1] > box[3]:
            raise ValueError(f"{list(box)} is not a box of four whole numbers from 0 to {GRID} in order")
    if not parsed or len(parsed) != len(boxes):
        raise ValueError(f"{text!r} is not a list of boxes of four numbers")
    return parsed


def html_table(rows: Iterable[Sequence[str]]) -> str:
    """A table as the paper writes it: no head, no attributes, no blanks between the tags."""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell, quote=False)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{body}</table>"
