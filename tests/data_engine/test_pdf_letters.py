"""Letters and names that are hard to write down: beyond U+FFFF, halves of letters, hyphens, bytes without Unicode."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data_engine.conftest import make, skipped_of
from tests.data_engine.pdfs import column, text_at, unicode_map, write_pdf
from tests.data_engine.test_pdf import LEFT, boxes_in_pixels, gray_pixels, read

MAPPED = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 5 0 R >>"
WORDS = column(72, 92, ["some ordinary words stand here", "and some more of them"], 12).replace("/F1", "/F2")
CODES = {"a": "D835DC65", "b": "D835DC66", "c": "D83DDE00", "h": "D835"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def astral(directory: Path, content: str) -> Path:
    """A page whose font F1 writes a, b, c as letters beyond U+FFFF and h as the half of one."""
    return write_pdf(directory / "page.pdf", [content], font=MAPPED, others=[unicode_map(CODES)])


@pytest.mark.parametrize("grounding", [0.0, 1.0])
def test_letters_beyond_the_first_plane_are_whole(tmp_path: Path, grounding: float) -> None:
    gap = text_at(72, 152, "ab") + text_at(92, 152, "is first", font="F2")
    astral(tmp_path, WORDS + gap + text_at(300, 152, "and second", font="F2"))
    response = read(tmp_path, grounding).response
    assert "𝑥𝑦is first" in response.replace("𝑦 is", "𝑦is")
    assert response.encode().decode() == response
    astral(tmp_path, WORDS + text_at(72, 152, "a") + text_at(80, 152, "= 7 + 5", font="F2"))
    response = read(tmp_path, grounding).response
    assert ("\\[𝑥= 7 + 5\\]".replace(" ", "") if grounding else "𝑥=7+5") in response.replace(" ", "")


@pytest.mark.parametrize("grounding", [0.0, 1.0])
@pytest.mark.parametrize("content", ["h", "h = 7 + 5", "7 + h"])
def test_half_a_letter_ends_no_run(tmp_path: Path, grounding: float, content: str) -> None:
    gap = text_at(300, 152, "and = second", font="F2")
    astral(tmp_path, WORDS + WORDS.replace("72", "330") + text_at(72, 152, content) + gap)
    response = read(tmp_path, grounding).response
    assert response.encode().decode() == response
    assert "\ufffd" in response


def test_lines_behind_letters_beyond_the_first_plane_keep_their_ends_and_boxes(tmp_path: Path) -> None:
    content = text_at(72, 92, "abcabcabcabcabcabc") + text_at(196, 92, "ordinary words here after", font="F2")
    astral(tmp_path, content + text_at(72, 192, "the last line") + text_at(72, 292, "its end", font="F2"))
    rendered = read(tmp_path, jpeg_quality=None)
    first, second, third = boxes_in_pixels(rendered)
    assert [block.text.replace("## ", "") for block, _ in (first, third)] == [
        "𝑥𝑦😀" * 6 + " ordinary words here after",
        "its end",
    ]
    ink = gray_pixels(rendered) < 200
    columns = np.flatnonzero(ink[first[1][1] : first[1][3]].any(0))
    assert abs(int(columns.max()) - first[1][2]) <= 4
    assert second[0].text.endswith("l𝑥st line")


def test_names_without_unicode_are_spelled_out(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.pdf"), os.fsdecode(b"br\xf6ken.pdf")]
    try:
        write_pdf(tmp_path / names[0], [column(72, 80, LEFT), ""])
    except OSError:
        pytest.skip("this file system takes only names that are UTF-8")
    (tmp_path / names[1]).write_bytes(b"%PDF-1.7 this is no PDF")
    outcome = make("pdf", tmp_path / "out", source=str(tmp_path), samples=3)
    assert outcome.manifest["samples"] == 1
    assert sorted(skipped.place for skipped in skipped_of(tmp_path / "out")) == [
        "br\\udcf6ken.pdf",
        "caf\\udce9.pdf, page 2: 0 characters",
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            ["this model uses self-", "attention and a two-", "stage training"],
            "uses self-attention and a two-stage tr",
        ),
        (["the state-of-the-", "art of it"], "the state-of-the-art of it"),
        (["a warm-up is a pre-text, and a warm-", "up comes first"], "and a warm-up comes"),
        (["the upkeep of a self-", "made up-", "keep is high"], "self-made upkeep is"),
        (["the token of a model, the token-", "model of both"], "the token-model of"),
        (["this is infor-", "mation that for the formation of it"], "is information that"),
        (["a line that ends in a divi-", "ded word"], "a divided word"),
    ],
)
def test_hyphens_of_words_are_kept_and_those_of_line_ends_are_not(
    tmp_path: Path, lines: list[str], told: str
) -> None:
    write_pdf(tmp_path / "page.pdf", [column(72, 100, lines)])
    assert told in read(tmp_path, 0.0).response
