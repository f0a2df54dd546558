"""Fox and OmniDocBench from the command's point of view: protocol, groups, outputs, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError, compose
from evaluation.benchmarks.fox import PAPER, bucket_of, read_fox
from evaluation.command import evaluate
from evaluation.config import EvaluationConfig


def run(*arguments: str) -> dict:
    return evaluate(compose(EvaluationConfig, list(arguments)), lambda _done, _wanted: None)


def texts(directory: Path, answers: dict[str, str]) -> Path:
    directory.mkdir(parents=True)
    for key, text in answers.items():
        (directory / f"{key}.md").write_text(text)
    return directory


def test_fox_takes_pages_of_600_to_1300_tokens(fox_directory: Path) -> None:
    pages = read_fox(fox_directory, lambda text: list(range(len(text))))
    assert [page.key for page in pages.pages] == ["en_1", "en_2", "en_3", "en_4"]
    assert [page.groups["text tokens"] for page in pages.pages] == [
        "600-700",
        "700-800",
        "700-800",
        "1200-1300",
    ]
    assert (bucket_of(600), bucket_of(700), bucket_of(1300)) == ("600-700", "700-800", "1200-1300")
    assert sum(row[4] for row in PAPER.values()) == 100
    assert pages.read(0).image_sizes == ((60, 80),)


def test_fox_is_scored_per_mode_and_bucket(fox_directory: Path, checkpoint: Path, tmp_path: Path) -> None:
    truths = {p.key: p.truth for p in read_fox(fox_directory, lambda text: list(range(len(text)))).pages}
    given = tmp_path / "given"
    texts(given / "fox-tiny", {key: text[: len(text) // 2] for key, text in truths.items()})
    texts(given / "fox-small", {key: text for key, text in truths.items() if key != "en_4"})
    out = tmp_path / "out"
    run(
        "benchmark=fox",
        f"data={fox_directory}",
        f"predictions={given}",
        f"tokenizer={checkpoint}",
        f"out={out}",
    )
    scores = json.loads((out / "scores.json").read_text())
    tiny, small = scores["datasets"]["fox-tiny"], scores["datasets"]["fox-small"]
    assert (small["missing"], small["missing_keys"]) == (1, ["en_4"])
    assert small["groups"]["text tokens"]["1200-1300"]["word_precision"]["value"] == 0
    assert small["groups"]["text tokens"]["700-800"]["word_f1"]["value"] == 1
    assert small["groups"]["text tokens"]["700-800"]["compression"]["value"] == pytest.approx(7.5)
    assert tiny["groups"]["text tokens"]["700-800"]["compression"]["value"] == pytest.approx(750 / 64)
    assert tiny["figures"]["word_recall"]["value"] == tiny["figures"]["fox_compat_precision"]["value"]
    for name in ("tables.md", "tables.tex", "index.html"):
        content = (out / name).read_text()
        assert "table 2 beside ours" in content and ("96.5" in content)
    assert "<svg" in (out / "plots" / "compression.svg").read_text()
    assert (out / "tables.tex").read_text().count(r"\begin{table}") == (out / "tables.md").read_text().count(
        "## "
    )


@pytest.mark.slow
def test_fox_is_read_with_a_checkpoint(fox_directory: Path, checkpoint: Path, tmp_path: Path) -> None:
    arguments = [
        "benchmark=fox", f"data={fox_directory}", f"checkpoint={checkpoint}", f"out={tmp_path / 'out'}",
        "in_modes=[nano_tiny,nano_small]", "max_new_tokens=3", "pages=2",
    ]  # fmt: skip
    run(*arguments)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores["datasets"]) == {"fox-nano_tiny", "fox-nano_small"}
    assert scores["all"]["missing"] == 0
    assert scores["all"]["devices"] == ["cpu"]
    for figure in ("tokens_per_second", "pages_per_day", "truncation", "share_of_paper_speed"):
        assert scores["all"]["figures"][figure]["value"] > 0


def test_omnidocbench_is_scored_by_language_and_type(omnidocbench_directory: Path, tmp_path: Path) -> None:
    from tests.evaluation.benchmarks.test_omnidocbench import RIGHT

    given = texts(tmp_path / "given", {"paper.pdf_3": RIGHT, "note": "A note."})
    out = tmp_path / "out"
    arguments = [
        "benchmark=omnidocbench", f"data={omnidocbench_directory}", f"predictions={given}", f"out={out}",
        "steps=[postprocess,score,report]",
    ]  # fmt: skip
    run(*arguments)
    scores = json.loads((out / "scores.json").read_text())
    groups = scores["datasets"]["omnidocbench-base"]["groups"]
    assert groups["language"]["english"]["overall_edit"]["value"] == 0
    assert groups["language"]["simplified_chinese"]["text_edit"]["value"] == 1  # its page is missing
    assert groups["page type"]["note"]["text_edit"]["value"] == 0
    assert scores["datasets"]["omnidocbench-base"]["missing_keys"] == ["book"]
    assert scores["version"] == "unknown version" and scores["pages"] == 3
    assert scores["vision_tokens"]["base"]["valid"] == 192
    written = out / "texts" / "released" / "omnidocbench-base" / "paper.pdf_3.md"
    assert written.read_text() == RIGHT
    assert "0.137" in (out / "tables.md").read_text()  # the paper's row stands beside


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["benchmark=foxes"], "did you mean 'fox'"),
        (["benchmark=fox"], "text tokens are counted"),
        (["benchmark=omnidocbench"], "does not exist"),
        (["postprocess=cooked"], "postprocess=cooked"),
        (["resamples=1"], "at least 10"),
        (["workers=-1"], "at least 0"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        run(*arguments, f"data={tmp_path}", f"predictions={tmp_path}", f"out={tmp_path / 'out'}")


def test_predicting_without_images_is_refused(
    omnidocbench_directory: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"3 of 3 images of omnidocbench are missing, such as .*paper\.pdf_3\.jpg"
    ):
        run(
            "benchmark=omnidocbench",
            f"data={omnidocbench_directory}",
            f"checkpoint={checkpoint}",
            f"out={tmp_path / 'out'}",
        )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"image": "a.png"}]', "entry 1: expected an image"),
        ('[{"image": "../a.png", "label": "%s"}]', "plain file"),
    ],
)
def test_a_wrong_fox_file_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "en_page_ocr.json").write_text(content.replace("%s", "x" * 700))
    with pytest.raises(ConfigError, match=sentence):
        read_fox(tmp_path, lambda text: list(range(len(text))))
