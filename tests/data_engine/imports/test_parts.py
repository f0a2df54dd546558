"""Cutting: nothing is lost between two items, and every part is found again where the scan saw it."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.dataset import Dataset
from data_engine.imports.parts import Items, lines, read_part, scan, text_pieces
from tests.data_engine.conftest import skipped_of
from tests.data_engine.imports.test_import import import_from

WORDS = st.lists(st.sampled_from(["tea", "水", " ", "\n", "\n\n", "🍵", "x" * 30, "\xe9"]), max_size=200)


@settings(max_examples=40, deadline=None)
@given(WORDS, st.integers(1, 40))
def test_pieces_are_short_and_lose_nothing(words: list[str], characters: int) -> None:
    data = "".join(words).encode()
    pieces = list(text_pieces(io.BytesIO(data), characters))
    assert b"".join(pieces) == data
    assert all(len(piece.decode()) <= characters for piece in pieces)


def test_pieces_end_with_a_paragraph_where_they_can() -> None:
    text = "one two\n\nthree four five six seven"
    assert list(text_pieces(io.BytesIO(text.encode()), 16)) == [
        b"one two\n\n",
        b"three four five ",
        b"six seven",
    ]


@pytest.mark.parametrize("items", [lines, partial(text_pieces, characters=7)])
def test_parts_are_found_again(tmp_path: Path, items: Items) -> None:
    for name, count in (("a", 5), ("b", 0), ("c", 11)):
        (tmp_path / name).write_text("".join(f"{name} line {i}\n" for i in range(count)))
    paths = sorted(tmp_path.iterdir())
    whole = [item for path in paths for item in items(io.BytesIO(path.read_bytes()))]
    pieces = scan(paths, items, 3)
    found = [[item for part in piece.parts for _, item in read_part(part, items)] for piece in pieces]
    assert [item for piece in found for item in piece] == whole
    assert [len(piece) for piece in found[:-1]] == [3] * (len(found) - 1)
    assert len({piece.sha256 for piece in pieces}) == len(pieces)


def test_plain_text_becomes_samples_without_images(tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_text("\n\n".join(f"poem {i} " + "word " * 30 for i in range(5)))
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    import_from(tmp_path, tmp_path / "out", characters=200, shard_samples=2)
    dataset = Dataset.open(tmp_path / "out")
    samples = [dataset.read_text(i) for i in range(len(dataset))]
    assert [sample.response.split()[:2] for sample in samples] == [["poem", str(i)] for i in range(5)]
    assert {(sample.prompt, sample.task) for sample in samples} == {("", "text")}
    assert [(skip.reason, skip.place) for skip in skipped_of(tmp_path / "out")] == [
        ("text is not UTF-8", "piece 1 of latin.txt")
    ]
