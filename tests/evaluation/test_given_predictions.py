"""Predictions made elsewhere: folders and JSONL, the figures of our own kinds, comparisons, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_engine.command_line import ConfigError, compose
from data_engine.dataset import open_datasets
from data_engine.prompts import PARSE_FIGURE
from data_engine.sample import Sample
from data_engine.shards import write_manifest, write_shard
from evaluation.command import evaluate
from evaluation.config import EvaluationConfig
from evaluation.figures import FIGURES, aggregate, compare_figures
from evaluation.report import sample_facts
from evaluation.score_sample import Job, score_job, score_jobs
from evaluation.tables import Table, latex, markdown
from tests.evaluation.conftest import png
from tests.evaluation.metrics.test_charts import CHART
from tests.evaluation.metrics.test_geometry import FIGURE
from tests.evaluation.test_predictions import ANSWER

TRUTHS = {"chart": CHART, "chemistry": "CCO", "geometry": FIGURE}
RIGHT = {
    "teds": 1,
    "scrm_map_strict": 1,
    "rms_f1": 1,
    "canonical_match": 1,
    "inchikey_match": 1,
    "line_f1": 1,
}


def run(*arguments: str) -> dict[str, Any]:
    return evaluate(compose(EvaluationConfig, list(arguments)), lambda _done, _wanted: None)


def read_scores(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return content


@pytest.fixture(scope="module")
def figures_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of three samples: charts, molecules, plane figures."""
    root = tmp_path_factory.mktemp("ocr2")
    picture = png("x")
    for task, truth in TRUTHS.items():
        samples = [
            Sample(f"{task}-{i}", (picture,), ("png",), ((128, 128),), PARSE_FIGURE, truth, task, {"seed": 1})
            for i in range(3)
        ]
        (root / task).mkdir()
        record = write_shard(root / task, f"{task}-000000", samples, {"test": True})
        write_manifest(root / task, kind=task, seed=1, shards=[record], skipped=[], options={}, versions={})
    return root


def folder(root: Path, texts: dict[str, list[str]]) -> Path:
    for task, answers in texts.items():
        (root / task).mkdir(parents=True)
        for i, text in enumerate(answers):
            (root / task / f"{task}-{i}.md").write_text(text)
    return root


def test_our_kinds_are_scored_in_their_fields(figures_data: Path, tmp_path: Path) -> None:
    texts = {task: [truth, "nonsense(", truth] for task, truth in TRUTHS.items()}
    given = folder(tmp_path / "given", texts)
    out = tmp_path / "out"
    summary = run(f"data={figures_data}", f"predictions={given}", f"out={out}")
    scores = read_scores(out)
    for dataset, figure in (("chart", "teds"), ("chart", "scrm_map_high"), ("chart", "rms_compat_f1"),
                            ("chemistry", "tanimoto_morgan"), ("chemistry", "valid_smiles"),
                            ("geometry", "line_f1"), ("geometry", "element_f1")):  # fmt: skip
        found = scores["datasets"][dataset]["figures"][figure]
        assert found["value"] == pytest.approx(2 / 3), figure
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
        assert found["samples"] == 3
    for dataset in TRUTHS:
        assert scores["datasets"][dataset]["malformed_keys"] == [f"{dataset}-1"]
        assert summary["datasets"][dataset]["figures"]["malformed"]["value"] == pytest.approx(1 / 3)
    assert summary["checkpoint"] is None and summary["predictions"] == str(given)
    page = (out / "index.html").read_text()
    assert page.count(", malformed</span>") == 3
    for text in ("TEDS structure only", "SCRM mAP strict", "InChIKey match", "66.7 %", "Line F1"):
        assert text in page and (text in (out / "tables.md").read_text()), text


def test_health_is_told_by_dataset_and_device(figures_data: Path, tmp_path: Path) -> None:
    lines = [
        {"key": "chemistry-0", "text": "CCO", "seconds": 0.5, "generated_tokens": 10, "device": "GPU A"},
        {"key": "chemistry-1", "text": "C" * 80, "seconds": 2.0, "generated_tokens": 80, "device": "GPU B",
         "finish_reason": "length"},
    ]  # fmt: skip
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = [f"data={figures_data / 'chemistry'}", f"predictions={given}", f"out={tmp_path / 'out'}"]
    run(*arguments, "steps=[score]", "resamples=10")
    table = (tmp_path / "out" / "tables.md").read_text().partition("## Health of the generation")[2]
    first, second = (
        line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| chemistry")
    )
    assert [cell.partition(" (")[0] for cell in first[1:]] == [
        "GPU A",
        "0.0 %",
        "0.0 %",
        "20.0",
        "172,800",
        "86.4 %",
    ]
    assert [cell.partition(" (")[0] for cell in second[1:]] == [
        "GPU B", "100.0 %", "100.0 %", "40.0", "43,200", "21.6 %"
    ]  # fmt: skip
    samples = read_scores(tmp_path / "out")["samples"]
    assert [sample_facts(sample)[2:] for sample in samples] == [
        [],
        ["cut off", "ends in a loop"],
        ["no prediction"],
    ]


def test_missing_and_duplicate_predictions_are_named_and_wrong(figures_data: Path, tmp_path: Path) -> None:
    lines = [
        {"dataset": "chemistry", "key": "chemistry-0", "text": "CCO"},
        {"dataset": "chemistry", "key": "chemistry-1", "text": "CCO"},
        {"dataset": "chemistry", "key": "chemistry-1", "text": "OCC"},
    ]
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    run(f"data={figures_data}", f"predictions={given}", f"out={out}", "steps=[score]")
    scores = read_scores(out)["datasets"]["chemistry"]
    assert (scores["missing"], scores["missing_keys"]) == (1, ["chemistry-2"])
    assert (scores["duplicates"], scores["duplicate_keys"]) == (1, ["chemistry-1"])
    assert scores["figures"]["canonical_match"]["value"] == pytest.approx(1 / 3)
    assert read_scores(out)["datasets"]["chart"]["missing"] == 3
    tables = (out / "tables.md").read_text()
    assert (
        "1 without a prediction (chemistry-2)" in tables
        and "1 with several predictions (chemistry-1)" in tables
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("p.jsonl", '{"dataset": "chart", "key": "page-0", "text": ""}\n', "predictions, such as chart/page-0"),
        ("p.jsonl", '{"dataset": "page", "key": "chart-0", "text": ""}\n', "of other data"),
        ("p.jsonl", '{"key": "chart-0", "text": ""}\n', "line 1: needs the texts key, text and"),
        ("p.jsonl", '{"dataset": "chart", "key": "chart-0", "text": "", "seconds": "1"}\n', "seconds=1 is not"),
        ("p.jsonl", "{\n", "line 1: not JSON"),
        ("p.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("p.jsonl", "", "holds no prediction"),
        ("chart/chart-9.md", "x", "of other data"),
        ("notes/x.md", "x", "no sub-directory for any of chart, chemistry, geometry"),
        ("chart/chart-0.md", b"\xff\xfe", "is not UTF-8"),
        ("nothing", None, "does not exist"),
    ],
)  # fmt: skip
def test_predictions_that_do_not_fit_are_refused(
    figures_data: Path, tmp_path: Path, name: str, content: str | bytes | None, sentence: str
) -> None:
    path = tmp_path / "given" / name
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    given = path if path.suffix == ".jsonl" else tmp_path / "given"
    with pytest.raises(ConfigError, match=sentence):
        run(f"data={figures_data}", f"predictions={given}", f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_predictions_of_another_dataset_of_that_name_are_not_scored(
    figures_data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.jsonl").write_text("")
    (out / "predictions.settings.json").write_text(json.dumps({"dataset chart": "another fingerprint"}))
    with pytest.raises(ConfigError, match="made with another dataset chart"):
        run(f"data={figures_data}", f"checkpoint={checkpoint}", f"out={out}", "steps=[score]",
            "modes.default=nano_tiny")  # fmt: skip


@pytest.mark.slow
def test_two_evaluations_are_compared(figures_data: Path, tmp_path: Path) -> None:
    wrong = {task: ["nonsense("] * 3 for task in TRUTHS}
    right = {task: [truth] * 3 for task, truth in TRUTHS.items()}
    for name, texts in (("wrong", wrong), ("right", right)):
        run(f"data={figures_data}", f"predictions={folder(tmp_path / name, texts)}", f"out={tmp_path / name}-out",
            "steps=[score]")  # fmt: skip
    arguments = [f"data={figures_data}", f"predictions={tmp_path / 'right'}", f"out={tmp_path / 'compared'}"]
    run(*arguments, f"compare={tmp_path / 'wrong-out'}")
    chart = read_scores(tmp_path / "compared")["comparison"]["datasets"]["chart"]
    assert {chart[name]["verdict"] for name in ("teds", "malformed", "normalised_edit_distance")} == {
        "better"
    }
    assert chart["malformed"]["difference"]["value"] == -1
    assert "Comparison: chart" in (tmp_path / "compared" / "index.html").read_text()
    arguments.append("steps=[score]")
    run(*arguments, f"compare={tmp_path / 'right-out'}")
    same = read_scores(tmp_path / "compared")["comparison"]["datasets"]["chart"]
    assert {figure["verdict"] for figure in same.values()} == {"undecided"}
    with pytest.raises(ConfigError, match="has other samples"):
        run(*arguments, "samples=2", f"compare={tmp_path / 'wrong-out'}")
    with pytest.raises(ConfigError, match="does not exist"):
        run(*arguments, f"compare={tmp_path / 'nowhere'}")


def test_predictions_of_our_own_file_can_be_given(figures_data: Path, tmp_path: Path) -> None:
    dataset = open_datasets(figures_data)["chemistry"]
    line = {
        "dataset": "chemistry", "key": dataset.key(0), "image_key": dataset.key(0), "prompt": PARSE_FIGURE,
        "mode": "tiny", "text": "CCO", "finish_reason": "length", "prompt_tokens": 9, "vision_tokens": 7,
        "generated_tokens": 50, "seconds": 0.5,
    }  # fmt: skip
    given = tmp_path / "predictions.jsonl"
    given.write_text(json.dumps(line) + "\n")
    run(
        f"data={figures_data / 'chemistry'}",
        f"predictions={given}",
        f"out={tmp_path / 'out'}",
        "steps=[score]",
    )
    figures = read_scores(tmp_path / "out")["datasets"]["chemistry"]["figures"]
    assert figures["tokens_per_second"]["value"] == 100
    assert figures["pages_per_day"]["value"] == 172_800
    assert figures["share_of_paper_speed"]["value"] == pytest.approx(0.864)
    assert figures["truncation"]["value"] == 1


def test_pages_of_our_own_are_scored_by_boxes_tables_and_formulas() -> None:
    truth = (
        "<|ref|>title<|/ref|><|det|>[[0, 0, 500, 100]]<|/det|>\n# A title\n\n"
        "<|ref|>equation<|/ref|><|det|>[[0, 200, 500, 300]]<|/det|>\n\\[a = b\\]\n\n"
        "<|ref|>table<|/ref|><|det|>[[0, 400, 500, 600]]<|/det|>\n"
        "<table><tr><td>1</td><td>2</td></tr></table>"
    )
    answer = replace(ANSWER, text=truth.replace("[[0, 200,", "[[0, 999,").replace("<td>2", "<td>3"))
    for version in ("raw", "released"):
        figures = score_job(Job("document", truth, answer), version).contributions
        assert figures["box_mean_iou"] == (pytest.approx(2 / 3), 1)
        assert figures["malformed"] == (1, 1)  # a box whose bottom is above its top
        assert (figures["teds"], figures["formula_edit"]) == ((pytest.approx(3 / 4), 1), (0, 1))


def test_a_missing_answer_is_wrong_even_where_nothing_was_to_be_read() -> None:
    contributions = score_job(Job("page", "", None), "raw").contributions
    assert contributions["exact_match"] == contributions["word_f1"] == (0, 1)
    assert contributions["normalised_edit_distance"] == (1, 1)


@pytest.mark.slow
def test_processes_score_as_one_does() -> None:
    jobs = [Job("chart", CHART.replace("10", str(i)), None) for i in range(150)]
    assert score_jobs(jobs, "raw", 2) == score_jobs(jobs, "raw", 1)


def test_a_running_text_does_not_make_a_figure_negative() -> None:
    figures = aggregate([{"character_accuracy": (-500.0, 10.0)}, {"character_accuracy": (1.0, 10.0)}])
    assert figures["character_accuracy"]["value"] == figures["character_accuracy"]["low"] == 0
    assert aggregate([]) == {}


def test_the_overall_edit_is_the_mean_of_four_figures_not_of_pages() -> None:
    pages = [
        {"text_edit": (0.2, 1.0), "order_edit": (0.0, 1.0)},
        {
            "text_edit": (0.4, 1.0),
            "order_edit": (0.2, 1.0),
            "formula_edit": (1.0, 1.0),
            "table_edit": (0.5, 1.0),
        },
    ]
    figures = aggregate(pages, resamples=50)
    assert figures["overall_edit"]["value"] == pytest.approx((0.3 + 0.1 + 1.0 + 0.5) / 4)
    assert "text_edit" in compare_figures(pages, pages, resamples=50)
    assert "overall_edit" in FIGURES


def test_tables_are_escaped() -> None:
    table = Table("A_b", ("x|y", "50 %"), [["a|b", r"\&~^{}$#"]], "note")
    assert "| a\\|b | \\&~^{}$# |" in markdown([table])
    written = latex([table])
    assert r"A\_b. note" in written and r"50 \%" in written
    assert r"\textbackslash{}\&\textasciitilde{}\textasciicircum{}\{\}\$\#" in written
