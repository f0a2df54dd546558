"""Hand-made files in the layouts of the benchmarks; nothing of the benchmarks themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def fox_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pages; with a tokenizer of one token per byte, 650, 750, 750, 1300, 599 and 1301 tokens."""
    directory = tmp_path_factory.mktemp("fox")
    (directory / "en_pdf_png").mkdir()
    records = []
    for number, length in enumerate((650, 750, 750, 1300, 599, 1301), start=1):
        name = f"en_{number}.png"
        Image.new("L", (60, 80), 255).save(directory / "en_pdf_png" / name)
        text = ("word%d " % number * 300)[:length]  # noqa: UP031
        turns = [{"from": "human", "value": "<image>\nOCR:"}, {"from": "gpt", "value": text}]
        records.append({"image": name, "conversations": turns})
    (directory / "en_page_ocr.json").write_text(json.dumps(records))
    return directory


def block(category: str, order: int | None, **content: Any) -> dict[str, Any]:
    poly = [0, 0, 10, 0, 10, 10, 0, 10]
    return {
        "category_type": category,
        "poly": poly,
        "ignore": False,
        "order": order,
        "anno_id": order,
        **content,
    }


def page(name: str, blocks: list[dict[str, Any]], language: str, source: str, **extra: Any) -> dict[str, Any]:
    return {
        "layout_dets": blocks,
        "page_info": {
            "page_no": 0,
            "width": 600,
            "height": 800,
            "image_path": name,
            "page_attribute": {"data_source": source, "language": language, "layout": "single_column"},
        },
        "extra": {"relation": [], **extra},
    }


TABLE = "<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>"


@pytest.fixture(scope="session")
def omnidocbench_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pages: a paper in English, a book in Chinese whose paragraph is cut in two, a page of text only."""
    directory = tmp_path_factory.mktemp("omnidocbench")
    paper = page(
        "paper.pdf_3.jpg",
        [
            block("title", 1, text="A title"),
            block("text_block", 2, text="The first paragraph of the page."),
            block("equation_isolated", 3, latex="$$E = m c^2$$"),
            block("table", 4, html=TABLE, latex=""),
            block("text_block", 5, text="Another paragraph, the last one."),
            block("header", None, text="Journal of Tests"),
            {**block("text_block", 6, text="masked"), "ignore": True},
        ],
        "english",
        "academic_literature",
    )
    book = page(
        "book.png",
        [block("text_block", 1, text="春眠不觉晓处处"), block("text_block", 2, text="闻啼鸟夜来风雨声")],
        "simplified_chinese",
        "book",
        relation=[{"source_anno_id": 1, "target_anno_id": 2, "relation_type": "truncated"}],
    )
    notes = page("note.jpg", [block("text_block", 1, text="A note.")], "english", "note")
    (directory / "OmniDocBench.json").write_text(json.dumps([paper, book, notes]))
    return directory
