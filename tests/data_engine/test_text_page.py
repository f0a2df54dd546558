"""Text on pages: so many units as asked for, and the label is what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_engine.dataset import Dataset
from data_engine.document_options import TextPageOptions
from data_engine.errors import ConfigError
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered
from data_engine.render.text_page import TextPageRenderer
from tests.data_engine.conftest import make, needs_assets


def pages(count: int = 4, **options: object) -> list[Rendered]:
    renderer = TextPageRenderer(TextPageOptions(**options))
    return [renderer.render(Draws(1, "text_page", index)) for index in range(count)]


def ink_rows(rendered: Rendered) -> np.ndarray:
    pixels = rendered.pictures[0].pixels
    assert pixels is not None
    return (pixels < 200).any(axis=1)


@pytest.mark.parametrize("length", [[7, 7], [100, 300], [900, 900]])
def test_a_page_has_exactly_so_many_words(length: list[int]) -> None:
    for rendered in pages(length=length):
        words = rendered.response.split()
        assert length[0] <= len(words) <= length[1]
        assert len(words) == rendered.details["units"]


@needs_assets
def test_a_page_has_exactly_so_many_characters() -> None:
    for rendered in pages(units="characters", languages=["zh"], family="chinese", length=[333, 333]):
        assert len("".join(rendered.response.split())) == 333


def test_dpi_paper_and_spacing_are_what_is_asked_for() -> None:
    (page,) = pages(1, dpi=144.0, paper="letter", length=[300, 300])
    assert (page.pictures[0].width, page.pictures[0].height) == (1224, 1584)
    assert page.details["font_pixels"] == pytest.approx(20, abs=1e-3)
    (wide,) = pages(1, dpi=144.0, paper="letter", length=[300, 300], line_spacing=2.0)
    assert wide.response == page.response
    assert np.nonzero(ink_rows(wide))[0].max() > 1.4 * np.nonzero(ink_rows(page))[0].max()
    (left, right) = (
        pages(1, length=[40, 40], margin_points=[margin, 20.0])[0].pictures[0] for margin in (20.0, 120.0)
    )
    assert left.pixels is not None
    assert right.pixels is not None
    starts = [int(np.nonzero((p.pixels < 200).any(axis=0))[0].min()) for p in (left, right)]  # type: ignore[operator]
    assert starts == pytest.approx([20 * 96 / 72, 120 * 96 / 72], abs=3)


def test_what_does_not_fit_is_set_smaller_or_skipped() -> None:
    crowded = {"length": [1500, 1500], "font_points": [14.0, 14.0]}
    (page,) = pages(1, **crowded)
    assert page.details["font_pixels"] < 14 * 96 / 72
    assert len(page.response.split()) == 1500
    assert not ink_rows(page)[-40:].any()
    with pytest.raises(
        NoSampleError, match=r"text does not fit on the page: 1500 words of sample 0 at 18\.7 pixels"
    ):
        pages(1, overflow="skip", **crowded)


def test_the_style_of_a_page_is_told() -> None:
    (page,) = pages(1, family="mono", alignment="justified", length=[9, 9])
    assert (page.details["family"], page.details["alignment"], page.details["pages"]) == (
        "mono",
        "justified",
        1,
    )


def lines_of(picture: np.ndarray) -> list[np.ndarray]:
    """The lines of a page from top to bottom, each the ink between two white rows."""
    rows = np.concatenate([[False], (picture < 200).any(axis=1), [False]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(rows) > 0), np.flatnonzero(np.diff(rows) < 0)
    return [picture[start:end] for start, end in zip(starts, ends, strict=True)]


def test_a_long_text_runs_on_over_several_pages() -> None:
    """The pages hold the lines that one tall page has, in their order, and not one more or less."""
    options: dict = {
        "length": [300, 300],
        "line_spacing": 2.0,
        "font_points": [16.0, 16.0],
        "overflow": "pages",
    }
    (tall,) = pages(1, size=[480, 2400], **options)
    (broken,) = pages(1, size=[480, 400], margin_points=[54.0, 20.0], **options)
    assert tall.response == broken.response
    assert (tall.prompt, tall.details["pages"]) == ("<image>\nFree OCR.", 1)
    count = len(broken.pictures)
    assert count == broken.details["pages"] > 3
    assert broken.prompt == "<image>" * count + "\nFree OCR."
    assert broken.details["font_pixels"] == tall.details["font_pixels"] == 16
    found = [line for picture in broken.pictures for line in lines_of(picture.pixels)]  # type: ignore[arg-type]
    expected = lines_of(tall.pictures[0].pixels)  # type: ignore[arg-type]
    assert len(found) == len(expected) > 30
    for one, other in zip(found, expected, strict=True):
        assert (
            abs(int((255 - one.astype(int)).sum()) - int((255 - other.astype(int)).sum())) < 0.05 * other.size
        )
    for picture in broken.pictures:
        assert picture.pixels is not None
        assert not (picture.pixels[:16] < 200).any()
        assert not (picture.pixels[-20:] < 200).any()


def test_a_text_of_too_many_pages_is_skipped() -> None:
    with pytest.raises(
        NoSampleError, match=r"text needs more than options.pages_limit=2 pages: 900 words of sample"
    ):
        pages(1, length=[900, 900], size=400, overflow="pages", pages_limit=2)
    with pytest.raises(NoSampleError, match=r"text does not fit on the page"):
        pages(
            1, length=[9, 9], size=64, margin_points=[20.0, 9.0], font_points=[20.0, 20.0], overflow="pages"
        )


def test_pages_of_one_sample_go_into_a_shard(tmp_path: Path) -> None:
    make(
        "text_page", tmp_path / "out", samples=2, length=[200, 200], size=300, overflow="pages", pages_limit=9
    )
    dataset = Dataset.open(tmp_path / "out")
    for number in range(len(dataset)):
        sample = dataset.read(number)
        assert len(sample.images) == sample.prompt.count("<image>") == sample.provenance["pages"] > 1


def test_a_text_of_the_user_is_excerpted_word_for_word(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(400)]
    text = " ".join(words[:200]) + "\n\n" + " ".join(words[200:])
    (tmp_path / "book.txt").write_text(text)
    for rendered in pages(text=str(tmp_path / "book.txt"), length=[150, 250]):
        found = rendered.response.split()
        start = words.index(found[0])
        assert found == words[start : start + len(found)]
        assert ("\n\n" in rendered.response) == (start < 200 < start + len(found))


def test_every_document_of_a_jsonl_file_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"document number {number} " + "and so on " * 9}) for number in range(5)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    seen = [page.details["place"] for page in pages(10, text=str(tmp_path / "texts.jsonl"), length=[8, 8])]
    assert set(seen[:5]) == set(seen[5:]) == {f"line {number} of texts.jsonl" for number in range(1, 6)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "invalid text: line 1 of texts.jsonl"),
        ('{"body": "x"}', 'invalid text: line 1 of texts.jsonl: it has no text under "text"'),
        ('{"text": "too short"}', "text with fewer words than asked for: line 1 of texts.jsonl: 2, not 5"),
        (
            '{"text": "one two three four 中"}',
            "characters that the font serif cannot draw: line 1 of texts.jsonl: '中'",
        ),
    ],
)
def test_a_bad_line_is_skipped_with_its_place(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "texts.jsonl").write_text(line + "\n")
    with pytest.raises(NoSampleError) as caught:
        pages(1, text=str(tmp_path / "texts.jsonl"), length=[5, 5])
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"paper": "a9"}, "options.paper=a9 is not possible: give a4, a5, letter, legal"),
        ({"paper": "a4", "dpi": 1200.0}, "options.paper and options.dpi give 9917 x 14033 pixels"),
        ({"margin_points": [400.0, 10.0]}, "options.margin_points=[400.0, 10.0] leaves no room"),
        (
            {"overflow": "pages", "line_spacing": 1.0},
            "options.overflow=pages needs options.line_spacing of 1.2 or more",
        ),
        ({"pages_limit": 0}, "options.pages_limit=0 is not possible"),
        ({"units": "lines"}, "options.units=lines is not possible"),
    ],
)
def test_impossible_options_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TextPageOptions(**options)
    assert str(caught.value).startswith(sentence)


def test_a_missing_or_empty_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.txt cannot be read: No such file"):
        TextPageRenderer(TextPageOptions(text=str(tmp_path / "nothing.txt")))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"empty.jsonl is empty: give a text, or one document per line"):
        TextPageRenderer(TextPageOptions(text=str(tmp_path / "empty.jsonl")))
