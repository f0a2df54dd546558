"""dataset.index: where every part of every sample lies, for any number of samples, without loading it.

    head       magic, length and checksum of the rest of the head; what the file is of; a checksum per block
    columns    one after the other, each beginning at a multiple of 16 KiB, the block

What is special here:
- Opening reads the head (0.05 % of the file) and nothing else. A block is read with `pread` and compared with its
  checksum whenever it is needed, so damage is noticed no matter when it happens.
- No `mmap`: a read error or a truncated file under a memory map kills the process (SIGBUS), and every page that
  was ever looked at counts as memory of the process. What is read here is an exception when it fails, and bounded:
  the blocks used last (64 MiB at most), and 4 MiB while many rows are gathered.
- Rows of 8 bytes are gathered in the order of the file, so a million random ones cost one pass over their column.
- The head names the manifest's content, so an index of another dataset is not mistaken for this one's.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_engine.errors import ConfigError

INDEX_NAME = "dataset.index"
BLOCK = 16384
_MAGIC = b"OCRINDX1"
_PREAMBLE = struct.Struct("<8sQ16s")  # magic, bytes of the head after this, their checksum
_BLOCKS_KEPT = 4096
_BLOCKS_AT_ONCE = 256
CHECKSUMS: tuple[Callable[[bytes], int], ...] = (zlib.crc32, xxhash.xxh3_64_intdigest)
"""CRC-32 was written at first; XXH3 is ten times as fast, which is felt when samples come from the page cache."""
CRC32, XXH3 = 0, 1
_PART = [("offset", "<i8"), ("size", "<u4"), ("format", "<u2"), ("checked_by", "<u2"), ("checksum", "<u8")]
SPAN_BITS = 48
"""A span is one number: where something starts in the low 48 bits, how many it has in the high 16."""
SPAN_MASK = (1 << SPAN_BITS) - 1
_SPAN, _TEXT_FIELDS, _IMAGE_FIELDS = struct.Struct("<Q"), struct.Struct("<qIHHQQ"), struct.Struct("<qIHHQii")
_SPANS_PER_BLOCK = BLOCK // _SPAN.size
_TEXTS_PER_BLOCK, _IMAGES_PER_BLOCK = BLOCK // _TEXT_FIELDS.size, BLOCK // _IMAGE_FIELDS.size

TEXT = np.dtype([*_PART, ("key", "<u8")])
IMAGE = np.dtype([*_PART, ("width", "<i4"), ("height", "<i4")])
"""Members of tars: where the content begins, bytes, place in sample.IMAGE_FORMATS, place in CHECKSUMS, checksum."""
OFFSET, SIZE, FORMAT, CHECKED_BY, CHECKSUM = range(5)
TEXT_KEY = 5
IMAGE_WIDTH, IMAGE_HEIGHT = 5, 6
"""Places of these fields in what `IndexFile.text` and `IndexFile.image` give: reading a sample takes microseconds, and
fields with names would take a part of them."""

COLUMNS: dict[str, tuple[np.dtype[Any], str]] = {
    "images": (np.dtype("<u8"), "samples"),
    "lengths": (np.dtype(("<i4", 2)), "samples"),
    "image_sizes": (np.dtype(("<i4", 2)), "images"),
    "texts": (TEXT, "samples"),
    "image_parts": (IMAGE, "images"),
    "keys": (np.dtype("u1"), "key_bytes"),
}
"""Name -> type of a row, and what there is one row of. Planning gathers spans of images, characters of prompt and
response, and (width, height); reading needs the text with the span of its key, the images with their sizes once
more, and the keys, one after the other in UTF-8. A row never lies across two blocks."""


@dataclass(frozen=True)
class IndexHead:
    """What the file is of."""

    content: str
    """`manifest_content` of the dataset."""
    samples: int
    images: int
    key_bytes: int

    def rows(self, column: str) -> int:
        """How many rows a column has."""
        return int(getattr(self, COLUMNS[column][1]))

    def blocks(self, column: str) -> int:
        """How many blocks a column takes."""
        return -(-self.rows(column) * COLUMNS[column][0].itemsize // BLOCK)


def spans(counts: NDArray[np.int64], start: int) -> NDArray[np.uint64]:
    """Spans that follow one another, the first beginning at `start`. ValueError when one is too long."""
    if counts.size and int(counts.max()) >= 1 << (64 - SPAN_BITS):
        raise ValueError(f"one sample has {int(counts.max())} parts, more than an index holds")
    starts = np.cumsum(counts) - counts + start
    return starts.astype(np.uint64) | (counts.astype(np.uint64) << np.uint64(SPAN_BITS))


def write_index(file: BinaryIO, head: IndexHead, rows_of: Callable[[str], Iterable[NDArray[Any]]]) -> None:
    """Write the file from its beginning to its end, with one step back to write the head.

    `rows_of(column)` gives the rows in as many pieces as it likes.
    """
    blocks = sum(head.blocks(column) for column in COLUMNS)
    fields = json.dumps(vars(head), sort_keys=True).encode()
    data_start = _data_start(len(fields), blocks)
    file.seek(data_start)
    sums: list[int] = []
    for column, (dtype, _) in COLUMNS.items():
        pending, written = bytearray(), 0
        for piece in rows_of(column):
            pending += np.ascontiguousarray(piece).view(np.uint8).data
            written += piece.nbytes
            whole = len(pending) // BLOCK * BLOCK
            sums += _checksums(pending, whole)
            file.write(memoryview(pending)[:whole])
            pending = pending[whole:]
        if written != head.rows(column) * dtype.itemsize:
            raise ValueError(f"column {column} has {written} bytes and not {head.rows(column)} rows")
        pending += bytes(-len(pending) % BLOCK)
        sums += _checksums(pending, len(pending))
        file.write(pending)
    rest = struct.pack("<I", len(fields)) + fields + np.array(sums, "<u8").tobytes()
    rest += bytes(data_start - _PREAMBLE.size - len(rest))
    file.seek(0)
    file.write(_PREAMBLE.pack(_MAGIC, len(rest), xxhash.xxh3_128_digest(rest)) + rest)


def _data_start(fields: int, blocks: int) -> int:
    return -(-(_PREAMBLE.size + 4 + fields + 8 * blocks) // BLOCK) * BLOCK


def _checksums(data: bytes | bytearray, size: int) -> list[int]:
    view = memoryview(data)
    return [xxhash.xxh3_64_intdigest(view[start : start + BLOCK]) for start in range(0, size, BLOCK)]


def _sorted(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of rows in ascending order, and the rows in that order.

    Row and place are sorted as one number, which takes a quarter of the time of an argsort.
    """
    bits = len(rows).bit_length()
    if rows.size and int(rows.max()).bit_length() + bits > 63:
        order = np.argsort(rows)
        return order, rows[order]
    both = np.sort(rows << bits | np.arange(len(rows)))
    return both & ((1 << bits) - 1), both >> bits


class IndexFile:
    """The rows of an index, verified as they are read. Safe to use from threads and after a fork.

    Args:
        read: `read(offset, size)` gives bytes of the file; OSError when it cannot.
        size: of the file in bytes.
        name: path or URL, for sentences.

    Raises:
        ConfigError: the head is damaged or not an index; from the methods: a block is damaged.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, name: str) -> None:
        self._read_bytes = read
        self.name = name
        magic, head_size, checksum = _PREAMBLE.unpack(self._read(0, _PREAMBLE.size))
        if magic != _MAGIC or head_size > size:
            raise self._damaged("it does not begin as an index")
        rest = self._read(_PREAMBLE.size, head_size)
        if xxhash.xxh3_128_digest(rest) != checksum:
            raise self._damaged("the checksum of its head does not match")
        (length,) = struct.unpack_from("<I", rest)
        self.head = IndexHead(**json.loads(rest[4 : 4 + length]))
        blocks = {column: self.head.blocks(column) for column in COLUMNS}
        self._sums = np.frombuffer(rest, "<u8", sum(blocks.values()), 4 + length)
        self._data_start = _data_start(length, len(self._sums))
        if size != self._data_start + len(self._sums) * BLOCK:
            raise self._damaged(f"it has {size} bytes")
        self._first_block: dict[str, int] = {}
        first = 0
        for column, count in blocks.items():
            self._first_block[column] = first
            first += count
        self._block = lru_cache(maxsize=_BLOCKS_KEPT)(lambda number: self._blocks(number, 1))

    def gather(self, column: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows [n] of a column whose rows have 8 bytes, in any order, repeated or not."""
        dtype = COLUMNS[column][0]
        per_block = BLOCK // 8
        order, ordered = _sorted(rows)
        blocks = ordered >> (per_block.bit_length() - 1)  # a division by a power of two
        # Where the next block is not the same or the following one, or a stretch gets too long, reading starts anew.
        cuts = np.flatnonzero((np.diff(blocks) > 1) | (np.diff(blocks // _BLOCKS_AT_ONCE) > 0)) + 1
        found = np.empty(len(rows), np.uint64)
        for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(rows)], strict=True):
            if start == stop:
                continue
            first, last = int(blocks[start]), int(blocks[stop - 1])
            number = self._first_block[column] + first
            data = self._block(number) if first == last else self._blocks(number, last - first + 1)
            found[start:stop] = np.frombuffer(data, "<u8")[ordered[start:stop] - first * per_block]
        result = np.empty_like(found)
        result[order] = found
        return result.view(dtype.base).reshape(len(rows), *dtype.shape)

    def text(self, row: int) -> tuple[int, ...]:
        """The fields of one row of "texts", in the order of TEXT."""
        block = self._block(self._first_block["texts"] + row // _TEXTS_PER_BLOCK)
        return _TEXT_FIELDS.unpack_from(block, row % _TEXTS_PER_BLOCK * _TEXT_FIELDS.size)

    def image(self, row: int) -> tuple[int, ...]:
        """The fields of one row of "image_parts", in the order of IMAGE."""
        block = self._block(self._first_block["image_parts"] + row // _IMAGES_PER_BLOCK)
        return _IMAGE_FIELDS.unpack_from(block, row % _IMAGES_PER_BLOCK * _IMAGE_FIELDS.size)

    def images_of(self, row: int) -> range:
        """Rows of the images of a sample."""
        block = self._block(self._first_block["images"] + row // _SPANS_PER_BLOCK)
        (span,) = _SPAN.unpack_from(block, row % _SPANS_PER_BLOCK * 8)
        start = span & SPAN_MASK
        return range(start, start + (span >> SPAN_BITS))

    def key(self, span: int) -> str:
        """The key that a row of "texts" tells the span of."""
        start, count = span & SPAN_MASK, span >> SPAN_BITS
        return self._bytes("keys", start, start + count).decode("utf-8")

    def rows(self, column: str, start: int, count: int) -> NDArray[Any]:
        """Rows that follow one another."""
        dtype = COLUMNS[column][0]
        data = self._bytes(column, start * dtype.itemsize, (start + count) * dtype.itemsize)
        return np.frombuffer(data, dtype.base).reshape(count, *dtype.shape)

    def _bytes(self, column: str, begin: int, end: int) -> bytes:
        number = self._first_block[column]
        first, last = begin // BLOCK, (end - 1) // BLOCK
        if first == last:
            return self._block(number + first)[begin - first * BLOCK : end - first * BLOCK]
        data = b"".join([self._block(number + block) for block in range(first, last + 1)])
        return data[begin - first * BLOCK : end - first * BLOCK]

    def verify(self) -> None:
        """Read every block. ConfigError when one is damaged."""
        for number in range(0, len(self._sums), _BLOCKS_AT_ONCE):
            self._blocks(number, min(_BLOCKS_AT_ONCE, len(self._sums) - number))

    def _blocks(self, number: int, count: int) -> bytes:
        data = self._read(self._data_start + number * BLOCK, count * BLOCK)
        if _checksums(data, len(data)) != self._sums[number : number + count].tolist():
            raise self._damaged(
                f"the checksum of a block from {number} to {number + count - 1} does not match"
            )
        return data

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = self._read_bytes(offset, size)
        except OSError as error:
            raise self._damaged(f"it cannot be read ({error})") from error
        if len(data) != size:
            raise self._damaged(f"it ends after {offset + len(data)} bytes")
        return data

    def _damaged(self, problem: str) -> ConfigError:
        return ConfigError(
            f"{self.name} is damaged: {problem}; remove it, and python -m data_engine index=DIR makes it again."
        )
