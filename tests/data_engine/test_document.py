"""Synthetic documents: boxes by pixels, labels that parse back."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import numpy as np
import pytest
from lxml import html

from data_engine.command import schema_of
from data_engine.command_line import compose
from data_engine.document_options import DocumentOptions, TextPageOptions
from data_engine.languages import SCRIPTS
from data_engine.markup import parse_grounded
from data_engine.random_stream import Draws, Stream
from data_engine.render.base import NoSampleError
from data_engine.render.document import DocumentRenderer, Placed
from data_engine.render.formula import random_formula
from data_engine.render.paragraphs import known_families, undrawable
from tests.data_engine.conftest import needs_assets

LATIN = [language for language in SCRIPTS if language != "zh"]


def renderer_of(**options: object) -> DocumentRenderer:
    values = {
        "languages": LATIN,
        "figure_kinds": ["geometry"],
        "jpeg_quality": None,
        "size": [600, 800],
        **options,
    }
    return DocumentRenderer(DocumentOptions(**values))


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[H, W] largest difference over the channels."""
    apart = np.abs(first.astype(int) - second.astype(int))
    return apart.max(axis=2) if apart.ndim == 3 else apart


def test_boxes_hold_their_ink_and_no_other_blocks() -> None:
    """Each block is drawn alone: its ink lies in its own box, and in no other box of the page."""
    renderer = renderer_of(
        figures=0.1, tables=0.15, formulas=0.15, color=0.5, blocks=[8, 14], size=[420, 560]
    )
    labels = set()
    for index in range(5):
        draws = Draws(5, "document", index)
        style = renderer._style(draws.stream("style"))
        placed = renderer._layout(draws, style)
        _, boxes = renderer._draw(style, placed)
        empty, _ = renderer._draw(style, [])
        assert len(boxes) == len(placed)
        for number, place in enumerate(placed):
            alone, _ = renderer._draw(style, [place])
            rows, columns = np.nonzero(difference(alone, empty) > 8)
            if place.block.label != "image":  # a picture's own paper may be the page's
                assert len(rows) > 0
            for other, box in enumerate(boxes):
                inside = (columns >= box[0]) & (columns < box[2]) & (rows >= box[1]) & (rows < box[3])
                if other == number:
                    assert inside.all(), (index, place.block.label)
                else:
                    assert not inside.any(), (index, place.block.label, placed[other].block.label)
            labels.add(place.block.label)
    assert labels >= {"title", "sub_title", "text", "table", "equation", "image"}


def test_boxes_on_the_grid_are_those_of_the_blocks() -> None:
    renderer = renderer_of(grounding=1.0)
    for index in range(8):
        rendered = renderer.render(Draws(2, "document", index))
        pixels = rendered.pictures[0].pixels
        assert pixels is not None
        blocks = parse_grounded(rendered.response)
        assert len(blocks) == rendered.details["blocks"]
        assert rendered.tells_places
        gray = pixels if pixels.ndim == 2 else pixels[..., :3].min(axis=2)
        height, width = gray.shape
        for block in blocks:
            left, top, right, bottom = (
                round(value / 999 * side)
                for value, side in zip(block.boxes[0], (width, height) * 2, strict=True)
            )
            assert np.ptp(gray[top:bottom, left:right]) > 40, block


def test_labels_parse_back() -> None:
    renderer = renderer_of(grounding=1.0, tables=0.3, formulas=0.3)
    tables = formulas = 0
    for index in range(10):
        for block in parse_grounded(renderer.render(Draws(3, "document", index)).response):
            if block.label == "table":
                rows = [[cell.text or "" for cell in row] for row in html.fromstring(block.text)]
                assert len({len(row) for row in rows}) == 1
                assert len(rows) >= 3
                tables += 1
            elif block.label == "equation":
                assert re.fullmatch(r"\\\[[^\[\]]+\\\]", block.text)
                assert block.text.count("{") == block.text.count("}")
                formulas += 1
            elif block.label == "title":
                assert block.text.startswith("# ")
            elif block.label == "sub_title":
                assert block.text.startswith("## ")
            else:
                assert (block.text == "") == (block.label == "image")
    assert min(tables, formulas) > 5


def test_the_same_page_without_boxes_says_the_same() -> None:
    fine, coarse = renderer_of(grounding=1.0), renderer_of(grounding=0.0)
    for index in range(6):
        draws = Draws(4, "document", index)
        blocks = parse_grounded(fine.render(draws).response)
        texts = [re.sub("^#+ ", "", block.text) for block in blocks if block.text]
        answer = coarse.render(draws)
        assert answer.response == "\n\n".join(texts)
        assert answer.prompt == "<image>\nFree OCR."
        assert not answer.tells_places


def test_the_style_of_a_page_is_told() -> None:
    """What the provenance says of a page is what the page was drawn with."""
    renderer = renderer_of(tables=0.3)
    for index in range(6):
        draws = Draws(4, "document", index)
        style, details = renderer._style(draws.stream("style")), renderer.render(draws).details
        labels = {place.block.label for place in renderer._layout(draws, style)}
        assert details["language"] == style.blocks.script.language.code
        assert details["family"] == style.blocks.family
        assert (details["columns"], details["colored"]) == (style.columns, style.colored)
        assert details["alignment"] == style.blocks.alignment
        assert set(details["holds"]) == labels
        assert details["table_lines"] == (style.blocks.table_lines if "table" in labels else "no table")


def test_formulas_are_what_mathtext_reads() -> None:
    """Our LaTeX is LaTeX: an independent reader takes all of it (save \\tag, which mathtext does not know)."""
    from matplotlib.mathtext import MathTextParser

    parser = MathTextParser("path")
    for number in range(6):
        formula = random_formula(Stream(f"formula/{number}"))
        assert parser.parse(f"${formula.latex()}$", 72, None).width > 0
        drawing = formula.draw(20)
        assert 0 < drawing.width < 1000
        assert drawing.ascent > 0


def test_every_language_can_be_written_with_its_fonts() -> None:
    known = set(known_families())
    for script in SCRIPTS.values():
        assert set(script.families) <= known
        text = "".join(script.language.words) + script.figure + script.table + "•:.0123456789"
        for family in script.families:
            if family != "chinese":
                assert undrawable(text + text.upper(), family) == [], (script.language.code, family)


@pytest.mark.slow
def test_languages_may_have_weights() -> None:
    usual, changed, listed = (
        DocumentOptions(**options).language_weights()
        for options in ({}, {"languages": {"zh": 0, "he": 3}}, {"languages": ["de", "de", "he"]})
    )
    assert usual == dict.fromkeys(SCRIPTS, 1.0)
    assert changed == usual | {"zh": 0, "he": 3}
    assert listed == dict.fromkeys(SCRIPTS, 0.0) | {"de": 2.0, "he": 1.0}
    assert TextPageOptions(languages={"de": 0.5}).language_weights()["en"] == 1.0
    for kind in ("document", "text_page", "scene_text"):  # the command line takes both
        for value in ("{en: 0, he: 1}", "[he]"):
            arguments = [f"kind={kind}", "out=x", "samples=1", f"options.languages={value}"]
            assert "he" in compose(schema_of(arguments), arguments).options.languages


def test_right_to_left_text_begins_on_the_right() -> None:
    renderer = renderer_of(
        languages=["he"], columns=[2, 2], grounding=1.0, figures=0.0, tables=0.0, formulas=0.0
    )
    for index in range(3):
        blocks = parse_grounded(renderer.render(Draws(6, "document", index)).response)
        short = [block for block in blocks if block.label == "sub_title"]
        texts = [block for block in blocks if block.label == "text"]
        assert all(
            any(abs(heading.boxes[0][2] - text.boxes[0][2]) < 25 for text in texts) for heading in short
        )


def test_a_page_too_small_for_any_block_is_skipped() -> None:
    renderer = renderer_of(
        size=64, font_pixels=[8.0, 8.0], languages=["de"], tables=0.0, lists=0.0, formulas=0.0
    )
    reasons = set()
    for index in range(12):
        try:
            renderer.render(Draws(1, "document", index))
        except NoSampleError as error:
            reasons.add(error.reason)
    assert reasons <= {"no block fits on the page"}


GOLDEN = "0c5c1bbe1c3fabc3"


@needs_assets
def test_golden_labels() -> None:
    """What is asked and answered must not change without a new ENGINE_VERSION."""
    renderer = DocumentRenderer(DocumentOptions(figures=0.0, size=[600, 800]))
    digest = hashlib.sha256()
    for index in range(12):
        rendered = renderer.render(Draws(1, "document", index))
        text = re.sub(r"\[\[.*?\]\]", "", rendered.response)  # boxes follow the rasteriser, to a pixel
        digest.update(f"{rendered.prompt}\n{text}\n".encode())
    assert digest.hexdigest()[:16] == GOLDEN


def placed_of(renderer: DocumentRenderer, index: int) -> list[Placed]:
    draws = Draws(5, "document", index)
    return renderer._layout(draws, renderer._style(draws.stream("style")))


def test_columns_are_filled_one_after_the_other() -> None:
    for direction, language in ((1, "de"), (-1, "he")):
        renderer = renderer_of(columns=[2, 2], blocks=[40, 40], languages=[language])
        for index in range(4):
            placed = [place for place in placed_of(renderer, index) if place.block.label != "title"]
            xs = [direction * place.x for place in placed]
            assert xs == sorted(xs)
            for before, after in pairwise(placed):
                if before.x == after.x:
                    assert before.y + before.block.height < after.y


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tables": 0.6, "figures": 0.6}, "options.lists + tables + formulas + figures="),
        ({"languages": ["xx"]}, "options.languages=xx is not possible"),
        ({"figure_kinds": ["page"]}, "options.figure_kinds=page is not possible"),
        ({"jpeg_quality": 0}, "options.jpeg_quality=0 is not possible"),
    ],
)
def test_impossible_options_are_refused(options: dict, sentence: str) -> None:
    from data_engine.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        DocumentOptions(**options)
    assert str(caught.value).startswith(sentence)
