"""dataset.index: rows come back as they were written, whatever their order, and no damage passes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from data_engine.index_file import BLOCK, COLUMNS, IndexFile, IndexHead, spans, write_index

SAMPLES, IMAGES, KEY_BYTES = 700_000, 600_000, 12_345


@cache
def content(column: str) -> NDArray[Any]:
    """Rows whose bytes say which row they are."""
    dtype, sort = COLUMNS[column]
    rows = {"samples": SAMPLES, "images": IMAGES, "key_bytes": KEY_BYTES}[sort]
    words = -(-rows * dtype.itemsize // 8)
    numbers = np.arange(words, dtype="<u8") * np.uint64(2654435761)
    return np.frombuffer(numbers.tobytes()[: rows * dtype.itemsize], dtype.base).reshape(rows, *dtype.shape)


@pytest.fixture(scope="module")
def written() -> bytes:
    buffer = io.BytesIO()
    head = IndexHead("content", SAMPLES, IMAGES, KEY_BYTES)
    # Pieces of odd sizes, as the shards of a dataset are.
    write_index(buffer, head, lambda column: np.array_split(content(column), 7))
    return buffer.getvalue()


def opened(data: bytes, reads: list[int] | None = None, flipped: Sequence[int] = ()) -> IndexFile:
    """The index in `data`. `reads` gets the size of every read; `flipped` are bytes that are read otherwise."""

    def read(offset: int, size: int) -> bytes:
        if reads is not None:
            reads.append(size)
        part = data[offset : offset + size]
        for place in flipped:
            if 0 <= place - offset < size:
                part = part[: place - offset] + bytes([part[place - offset] ^ 1]) + part[place - offset + 1 :]
        return part

    return IndexFile(read, len(data), "test.index")


def test_opening_reads_the_head_alone(written: bytes) -> None:
    reads: list[int] = []
    index = opened(written, reads)
    assert sum(reads) < len(written) / 100
    assert index.head == IndexHead("content", SAMPLES, IMAGES, KEY_BYTES)
    index.verify()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_rows_come_back(written: bytes, data: st.DataObject) -> None:
    index = opened(written)
    column = data.draw(st.sampled_from(["images", "lengths", "image_sizes"]))
    expected = content(column)
    near = st.integers(0, 20_000)
    anywhere = st.integers(0, len(expected) - 1)
    rows = np.array(data.draw(st.lists(st.one_of(near, anywhere), max_size=40)), np.int64)
    found = index.gather(column, rows)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected[rows])


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_stretches_come_back(written: bytes, data: st.DataObject) -> None:
    index = opened(written)
    column = data.draw(st.sampled_from(sorted(COLUMNS)))
    expected = content(column)
    start = data.draw(st.integers(0, len(expected) - 1))
    count = data.draw(st.integers(0, min(3000, len(expected) - start)))
    assert index.rows(column, start, count).tobytes() == expected[start : start + count].tobytes()


def test_many_rows_are_read_in_bounded_pieces(written: bytes) -> None:
    reads: list[int] = []
    index = opened(written, reads)
    reads.clear()
    rows = np.random.default_rng(0).permutation(SAMPLES)
    np.testing.assert_array_equal(index.gather("lengths", rows), content("lengths")[rows])
    assert max(reads) <= 256 * BLOCK
    assert sum(reads) <= (SAMPLES * 8 // BLOCK + 1) * BLOCK


@pytest.mark.parametrize("place", [0, 8, 20, 40, 5000, -1, BLOCK * 40, BLOCK * 300 + 17])
def test_damage_is_noticed_where_it_is_read(written: bytes, place: int) -> None:
    with pytest.raises(
        ConfigError, match=r"test.index is damaged: .*; remove it, and python -m data_engine index="
    ):
        opened(written, flipped=[place % len(written)]).verify()


def test_damage_after_opening_is_noticed_too(written: bytes) -> None:
    flipped: list[int] = []
    index = opened(written, flipped=flipped)
    index.gather("images", np.arange(10))
    flipped.append(len(written) // 2)
    with pytest.raises(ConfigError, match="the checksum of a block"):
        for column in COLUMNS:
            rows = index.head.rows(column)
            for start in range(0, rows, 10_000):
                index.rows(column, start, min(10_000, rows - start))


def test_spans() -> None:
    found = spans(np.array([2, 0, 3]), 10)
    assert [(int(span) & (2**48 - 1), int(span) >> 48) for span in found] == [(10, 2), (12, 0), (12, 3)]
    with pytest.raises(ValueError, match="one sample has 70000 parts"):
        spans(np.array([70_000]), 0)


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="column images has 80 bytes and not 11 rows"):
        write_index(io.BytesIO(), IndexHead("c", 11, 0, 0), lambda column: [np.zeros(10, "<u8")])
