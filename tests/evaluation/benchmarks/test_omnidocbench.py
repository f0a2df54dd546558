"""Hand-made pages with known answers."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError
from evaluation.benchmarks.omnidocbench import read_omnidocbench, vision_tokens_by_mode
from evaluation.benchmarks.omnidocbench_score import assigned, edit_share, match_blocks, page_figures
from evaluation.benchmarks.omnidocbench_truth import comparable_formula, predicted_page
from tests.evaluation.benchmarks.conftest import TABLE, block, page
from tests.evaluation.metrics.test_text import slow_edit_distance

RIGHT = (
    "# A title\n\nThe first paragraph of the page.\n\n\\[ E = m c^2 \\]\n\n"
    f"{TABLE}\n\nAnother paragraph, the last one."
)


@pytest.fixture(scope="module")
def pages(omnidocbench_directory: Path) -> dict:
    return {p.key: p for p in read_omnidocbench(omnidocbench_directory).pages}


def value(figures: dict, name: str) -> float:
    return figures[name][0] / figures[name][1]


def test_a_right_page_is_right_with_or_without_its_header(pages: dict) -> None:
    record = pages["paper.pdf_3"].reference
    for text in (RIGHT, "Journal of Tests\n\n" + RIGHT, RIGHT.replace("\\[", "$$").replace("\\]", "$$")):
        figures = page_figures(text, record)
        for name in ("text_edit", "order_edit", "formula_edit", "table_edit"):
            assert figures[name] == (0.0, 1.0), name
        assert value(figures, "teds") == value(figures, "teds_structure") == 1.0


def test_an_empty_page_is_wrong_in_everything(pages: dict) -> None:
    figures = page_figures("", pages["paper.pdf_3"].reference)
    assert {name: value(figures, name) for name in figures} == {
        "text_edit": 1, "order_edit": 1, "formula_edit": 1, "table_edit": 1, "teds": 0, "teds_structure": 0
    }  # fmt: skip


def test_a_page_is_scored_by_what_it_has(pages: dict) -> None:
    assert set(page_figures("A note.", pages["note"].reference)) == {"text_edit", "order_edit"}


def test_the_order_counts_apart_from_the_text(pages: dict) -> None:
    title, first, formula, table, last = RIGHT.split("\n\n")
    figures = page_figures("\n\n".join([title, last, formula, table, first]), pages["paper.pdf_3"].reference)
    assert value(figures, "text_edit") == 0
    assert value(figures, "order_edit") == pytest.approx(2 / 3)  # 1 3 2 for 1 2 3: two of three to change


def test_a_wrong_letter_and_a_superfluous_paragraph(pages: dict) -> None:
    record = pages["paper.pdf_3"].reference
    # 6 + 27 + 26 letters and digits; punctuation and spaces do not count.
    letters = len("Atitle" + "Thefirstparagraphofthepage" + "Anotherparagraphthelastone")
    one = page_figures(RIGHT.replace("Another", "Anothor"), record)
    assert value(one, "text_edit") == pytest.approx(1 / letters)
    more = page_figures(RIGHT + "\n\n12345 67890", record)
    assert value(more, "text_edit") == pytest.approx(10 / (letters + 10))
    assert value(more, "order_edit") == 0


def test_paragraphs_cut_or_joined_differently_are_not_wrong(pages: dict) -> None:
    book = pages["book"]
    assert book.truth == "春眠不觉晓处处\n\n闻啼鸟夜来风雨声"
    for text in ("春眠不觉晓处处闻啼鸟夜来风雨声", "春眠不觉晓,\n\n处处闻啼鸟。\n\n夜来风雨声"):
        assert value(page_figures(text, book.reference), "text_edit") == 0, text
    record = pages["paper.pdf_3"].reference
    joined = RIGHT.replace("# A title\n\nThe first", "# A title\nThe first")
    assert value(page_figures(joined, record), "text_edit") == 0


def test_tables_are_found_and_missed(pages: dict) -> None:
    small = "<table><tr><td>x</td></tr></table>"
    record = page("t.jpg", [block("table", 1, html=TABLE), block("table", 2, html=small)], "english", "book")
    figures = page_figures("Some text\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n", record)
    assert figures["teds"] == (1.0, 2)  # one of two tables is there
    swapped = page_figures(f"{small}\n\n{TABLE}", record)
    assert value(swapped, "teds") == 1.0
    assert "text_edit" not in figures


def test_prediction_is_cut_into_its_parts() -> None:
    parts = predicted_page(RIGHT + "\n![](images/0.jpg)\n$$a$$ and \\(b\\)\n## Head\nText")
    assert parts.tables == [TABLE]
    assert parts.formulas == ["E = m c^2", "a"]
    assert parts.texts[-3:] == ["and \\(b\\)", "## Head", "Text"]
    assert predicted_page("").texts == []
    assert predicted_page("<table><tr><td>cut off").tables == ["<table><tr><td>cut off"]


def test_formulas_are_compared_without_spaces_and_numbers() -> None:
    assert comparable_formula("\\[ E = mc^2 \\tag{3} \\]") == comparable_formula("E=m c^2 \\quad (3).")


def test_the_assignment_equals_trying_all() -> None:
    generator = random.Random(1)
    for _ in range(200):
        told, right = (
            [
                "".join(generator.choices("ab", k=generator.randrange(1, 5)))
                for _ in range(generator.randrange(1, 4))
            ]
            for _ in "tr"
        )
        cost = {
            (i, j): slow_edit_distance(a, b) / max(len(a), len(b))
            for i, a in enumerate(told)
            for j, b in enumerate(right)
        }
        short, long = sorted((range(len(told)), range(len(right))), key=len)
        turned = len(told) > len(right)
        best = min(
            sum(cost[(j, i) if turned else (i, j)] for i, j in zip(short, chosen, strict=True))
            for chosen in itertools.permutations(long, len(short))
        )
        assert sum(cost[pair] for pair in assigned(told, right, 1.0)) == pytest.approx(best)
        pairs = list(zip(told, right, strict=False))
        edits = sum(slow_edit_distance(a, b) for a, b in pairs)
        assert edit_share(pairs) == pytest.approx(edits / sum(max(len(a), len(b)) for a, b in pairs))


def test_blocks_without_likeness_stay_alone() -> None:
    assert match_blocks(["abcdef"], ["uvwxyz"]) == []
    assert match_blocks([], ["a"]) == match_blocks(["a"], []) == []
    groups = match_blocks(["abc", "def"], ["abcdef", "xyz"])
    assert [(g.true, g.predicted) for g in groups] == [([0], [0, 1])]


def test_valid_tokens_follow_the_paper() -> None:
    tokens = vision_tokens_by_mode([(600, 800)])
    assert {mode: found["tokens"] for mode, found in tokens.items() if mode != "gundam_m"} == {
        "tiny": 64, "small": 100, "base": 256, "large": 400, "gundam": 256 + 600
    }  # fmt: skip
    assert tokens["base"]["valid"] == 256 * 600 / 800
    assert tokens["tiny"]["valid"] == 64  # resized, not padded
    assert vision_tokens_by_mode([(0, 0)]) == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        ("{", "not JSON"),
        ('{"a": 1}', "list of objects"),
        ("[]", "holds no page"),
        ('[{"page_info": {}}]', "page 1: expected layout_dets"),
        ('[{"layout_dets": [], "page_info": {"image_path": ".."}}]', "no plain file name"),
    ],
)
def test_a_ground_truth_that_is_none_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "OmniDocBench.json").write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        read_omnidocbench(tmp_path)


def test_a_page_listed_twice_is_refused(tmp_path: Path) -> None:
    twice = [page("same.jpg", [], "english", "book")] * 2
    (tmp_path / "OmniDocBench.json").write_text(json.dumps(twice))
    with pytest.raises(ConfigError, match="lists the page same twice"):
        read_omnidocbench(tmp_path)
