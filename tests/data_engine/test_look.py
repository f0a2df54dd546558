"""The page: everything a response says is drawn again, and nothing of it is taken for markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import html as lxml_html
from PIL import Image

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.look.coverage import coverage
from data_engine.look.histograms import histogram, shares
from data_engine.look.labels import boxes_over, figure_svg, shown
from data_engine.look.page import write_look
from data_engine.prompts import PARSE_FIGURE
from data_engine.sample import Sample
from tests.data_engine.conftest import make
from tests.data_engine.imports.test_import import import_from

FIGURE = (
    "{'Line': {'line': ['(-3, 0) -- (1, 0) -- (2, 0)', '(-3, 0) -- (0, 2.5)'], 'line_type': ['-', '--'], "
    "'line_endpoint': ['A: (-3, 0)', 'O: (0, 0)']}, 'Circle': {'circle_center': ['O: (0, 0)'], 'radius': [2.5]}}"
)


def test_a_page_of_one_file_shows_samples_and_counts(cards: Dataset, tmp_path: Path) -> None:
    path = write_look(str(cards.directory), str(tmp_path / "look.html"), None)
    page = lxml_html.parse(str(path)).getroot()
    assert len(page.xpath("//div[@class='sample']")) == 12
    sources = page.xpath("//img/@src")
    assert len(sources) == 12
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not page.xpath("//script | //link | //*[@onload]")
    responses = {element.text for element in page.xpath("//div[@class='sample']/pre")}
    assert responses == {cards.read_text(i).response for i in range(12)}
    captions = {element.text for element in page.xpath("//figcaption")}
    assert {"response, characters", "image width, pixels", "image height, pixels"} <= captions


def test_a_figure_is_plotted_again_from_its_dictionary() -> None:
    svg = lxml_html.fragment_fromstring(figure_svg(FIGURE))
    assert svg.xpath("./polyline/@points") == ["-3.0,-0.0 1.0,-0.0 2.0,-0.0", "-3.0,-0.0 0.0,-2.5"]
    assert [bool(line.get("stroke-dasharray")) for line in svg.xpath("./polyline")] == [False, True]
    assert svg.xpath("./circle[not(@class)]/@r") == ["2.5"]
    assert svg.xpath("./text/text()") == ["A", "O"]


@pytest.mark.parametrize("damaged", [FIGURE[:-9], "{'Line': 5}", "{'Line': {'line': [3]}}", "{'Line'" * 3000])
def test_a_broken_figure_is_shown_as_text(damaged: str) -> None:
    assert figure_svg(damaged) == ""
    assert "<pre>{" in shown(PARSE_FIGURE, damaged)


def test_a_table_is_set_again_and_a_molecule_drawn_again() -> None:
    table = shown(PARSE_FIGURE, "<table><tr><td>a &lt; b</td><td colspan='2'>1</td></tr></table>")
    assert '<table class="label"><tr><td>a &lt; b</td><td colspan="2">1</td></tr></table>' in table
    assert "<svg" in shown(PARSE_FIGURE, "CCO")
    assert "<svg" not in shown(PARSE_FIGURE, "no molecule")
    assert "<svg" not in shown("<image>\nFree OCR.", "CCO")


def test_boxes_lie_over_the_picture() -> None:
    response = "<|ref|>title<|/ref|><|det|>[[10, 20, 110, 70]]<|/det|>\n# Tea"
    (box,) = lxml_html.fragment_fromstring(boxes_over(response)).xpath("./rect")
    assert [box.get(name) for name in ("x", "y", "width", "height")] == ["10", "20", "100", "50"]
    assert box.xpath("./title/text()") == ["title: # Tea"]
    assert boxes_over("<|ref|>title<|/ref|><|det|>[[1]]<|/det|>") == ""


def test_nothing_of_a_sample_is_taken_for_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    grounded = {"image": "a.png", "boxes": [{"label": evil, "box": [1, 1, 9, 9], "text": evil}], "task": evil}
    records = [grounded, {"text": f"<table><tr><td>{evil}</td></tr></table>", "key": evil, "prompt": evil}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    import_from(tmp_path / "x.jsonl", tmp_path / "out")
    path = write_look(str(tmp_path / "out"), None, None)
    assert path == tmp_path / "out-look.html"
    assert not lxml_html.parse(str(path)).getroot().xpath("//script")


def test_tokens_are_counted_with_a_tokenizer(cards: Dataset, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    path = write_look(str(cards.directory), str(tmp_path / "a.html"), str(tmp_path / "tokenizer.json"))
    assert "response, tokens" in path.read_text()
    (tmp_path / "broken.json").write_text("{}")
    for name, sentence in (("broken.json", "cannot be read"), ("gone.json", "is no file")):
        with pytest.raises(ConfigError, match=sentence):
            write_look(str(cards.directory), str(tmp_path / "b.html"), str(tmp_path / name))


def test_styles_are_counted_and_numbers_are_not(tmp_path: Path) -> None:
    make("chemistry", tmp_path / "molecules", samples=6, size=128)
    dataset = Dataset.open(tmp_path / "molecules")
    styles, measures = coverage([dataset.read_text(i) for i in range(len(dataset))])
    assert not {"index", "seed", "line"} & {*styles, *measures}


def test_values_in_lists_and_measures_are_counted_by_sample() -> None:
    def sample(number: int) -> Sample:
        style: dict[str, Any] = {
            "parts": ["title", "legend"] if number % 4 else [],
            "dark": number % 2 == 0,
            "columns": number % 3,
            "font_pixels": 10 + number / 7,
            "units": number * 10,
            "file": f"{number}.pdf",
            "quads": [[[0, 1]]],
            "renderer": "same",
        }
        degraded = {"degradation": [{"blur": number / 100, "noise": 0.5}]} if number % 5 == 0 else {}
        return Sample(f"x-{number}", (), (), (), "", "", "page", style | degraded)

    styles, measures = coverage([sample(number) for number in range(100)])
    assert styles == {
        "parts": {"title": 75, "legend": 75, "none": 25},
        "dark": {"True": 50, "False": 50},
        "columns": {"0": 34, "1": 33, "2": 33},
        "degradation": {"blur": 20, "noise": 20, "none": 80},
    }
    assert set(measures) == {"font_pixels", "units", "degradation blur"}
    assert len(measures["degradation blur"]) == 20
    drawn = lxml_html.fragment_fromstring(shares("parts", styles["parts"], 100))
    assert drawn.xpath(".//td/text()") == ["legend", "75.0 %", "title", "75.0 %", "none", "25.0 %"]
    drawn = lxml_html.fragment_fromstring(histogram("degradation blur", measures["degradation blur"]))
    assert drawn.xpath("./small/text()") == ["least 0, median 0.475, 90 % 0.855, most 0.95"]
