"""Text files as rows of items that any process finds again: lines, or pieces of a long text.

One pass cuts the rows into parts, each a place in a file and a number of items, with a hash of what they hold. A
worker opens the file there and reads its items; nothing but the parts is kept in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

LARGEST_LINE = 64 * 1024**2

Items = Callable[[BinaryIO], Iterator[bytes]]
"""The items of a file from where it stands. Each is a cut of its bytes, and the next begins where it ends."""


@dataclass(frozen=True)
class Part:
    """Some items of a file that follow one another."""

    path: Path
    first: int
    """The number of its first item in the file, from 1."""
    offset: int
    """The byte where it starts."""
    items: int


@dataclass(frozen=True)
class Piece:
    """What one shard is made of."""

    parts: tuple[Part, ...]
    sha256: str
    """Of all its items."""


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends. One longer than LARGEST_LINE comes in several items, none of which can be understood."""
    return iter(partial(file.readline, LARGEST_LINE), b"")


def text_pieces(file: BinaryIO, characters: int) -> Iterator[bytes]:
    """Pieces of at most so many characters, which end with a paragraph where they can, else a line, else a word."""
    rest = b""
    while block := rest + file.read(4 * characters - len(rest)):
        cut = _cut(block, characters)
        yield block[:cut]
        rest = block[cut:]


def _cut(block: bytes, characters: int) -> int:
    # What is no UTF-8 keeps its place here and is refused with its piece later.
    text = block.decode("utf-8", "surrogateescape")
    if len(text) <= characters:
        return len(block)
    for end in ("\n\n", "\n", " "):
        place = text.rfind(end, characters // 2, characters)
        if place >= 0:
            break
    else:
        place, end = characters, ""
    return len(text[: place + len(end)].encode("utf-8", "surrogateescape"))


def scan(paths: Sequence[Path], items_of: Items, per_piece: int) -> list[Piece]:
    """All items of all files, so many per piece. Raises OSError when a file cannot be read."""
    pieces: list[Piece] = []
    parts: list[Part] = []
    digest, count = hashlib.sha256(), 0
    for path in paths:
        start, first, inside, position = 0, 1, 0, 0
        with open(path, "rb") as file:
            for item in items_of(file):
                digest.update(len(item).to_bytes(8, "little") + item)
                position += len(item)
                inside += 1
                count += 1
                if count == per_piece:
                    pieces.append(Piece((*parts, Part(path, first, start, inside)), digest.hexdigest()))
                    parts, digest, count = [], hashlib.sha256(), 0
                    start, first, inside = position, first + inside, 0
        if inside:
            parts.append(Part(path, first, start, inside))
    if parts:
        pieces.append(Piece(tuple(parts), digest.hexdigest()))
    return pieces


def read_part(part: Part, items_of: Items) -> Iterator[tuple[int, bytes]]:
    """The items of a part with their numbers in the file."""
    with open(part.path, "rb") as file:
        file.seek(part.offset)
        for number, item in zip(range(part.items), items_of(file), strict=False):
            yield part.first + number, item
