"""Rows of text: pieces that stand on one line of one strip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_engine.render.pdf_text import Piece

LIST_MARK = re.compile(r"[•‣▪◦●○∙·*–—-]|\(?[0-9]{1,2}[.)]|\(?[a-z][.)]")


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


def rows_of(pieces: Sequence[Piece], right_to_left: bool) -> list[Row]:
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
