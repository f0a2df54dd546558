"""The page: self-contained, escaped, worst first; opened in a real browser where there is one."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from data_engine.dataset import open_datasets
from evaluation.curves import loss_curves, read_losses, smoothed
from evaluation.predictions import Prediction
from evaluation.questions import Modes, cases_of
from evaluation.report import _image, choose_samples, marked, render
from evaluation.score import reading_summary, score_all
from evaluation.summary import duration, five_lines, percent
from tests.evaluation.conftest import png

ATTACK = "<script>document.title='attacked'</script><img src=x onerror=alert(1)>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directories = []
    for name in ("stage1", "stage2"):
        run = tmp_path_factory.mktemp("runs") / name
        run.mkdir()
        lines = [{"step": step, "loss": 6 / (1 + step / 40)} for step in range(0, 200, 10)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        directories.append(run)
    stages = [
        {"stage": 0, "layers": "vision tokenizer", "parameters": 1234567, "frozen": True, "share": 0.25}
    ]
    (directories[1] / "stage_table.json").write_text(json.dumps({"stages": stages}))
    return directories


@pytest.fixture(scope="module")
def page(heldout: Path, runs: list[Path]) -> str:
    """A report on hand-made predictions: right, half right, an attack, and one missing."""
    datasets = open_datasets(heldout)
    cases = {
        name: cases_of(name, dataset, 0, Modes({}, "nano_tiny"), 1) for name, dataset in datasets.items()
    }
    answers = {}
    for members in cases.values():
        for case in members[:-1]:
            text = {0: ATTACK, 1: case.truth[:2]}.get(case.index, case.truth)
            question = case.question
            answer = Prediction(
                question.dataset,
                case.key,
                case.key,
                question.prompt,
                "nano_tiny",
                text,
                "stop",
                12,
                7,
                4,
                0.1,
            )
            answers[question] = answer
    scores = score_all(cases, answers)
    summary = {
        **reading_summary(scores, "card"),
        "seconds": 61.0,
        "peak_memory_gib": 2.5,
        "checkpoint": "/somewhere/checkpoint",
    }
    return render(scores, summary, datasets, runs, shown=16)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_no_other_file_and_runs_nothing(page: str) -> None:
    tags = Tags(page).found
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed"}
    for tag, attributes in tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None and value.startswith(("data:image/", "#")), (tag, name, value)
    assert sum(tag == "img" for tag, _ in tags) == 10
    assert sum(tag == "svg" for tag, _ in tags) == 1
    assert "&lt;script&gt;" in page


def test_the_page_shows_curves_stages_scores_and_samples(page: str) -> None:
    for text in (
        "stage1",
        "stage2",
        "vision tokenizer",
        "1,234,567",
        "Read ",
        "With shuffled images",
        "2.50 GiB",
    ):
        assert text in page
    table = page[page.index("<h2>Datasets") : page.index("<h2>Held-out")]
    accuracies = [
        float(row)
        for row in re.findall(r"<td>(?:card|figure)</td><td>\d+</td><td>\d+</td><td>([\d.]+) %", table)
    ]
    assert accuracies == sorted(accuracies) and len(accuracies) == 2
    assert page.index("Held-out: card") < page.index("Held-out: figure")
    assert "no prediction" in page


@pytest.mark.slow
def test_a_browser_shows_the_page(page: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no headless browser is installed (one of {', '.join(BROWSERS)})")
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "index.html").as_uri()
    shot = subprocess.run(
        [browser, *options, "--window-size=1200,2000", f"--screenshot={picture}", address],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert picture.stat().st_size > 20_000, shot.stderr
    dom = subprocess.run(
        [browser, *options, "--dump-dom", address], capture_output=True, text=True, timeout=120
    ).stdout
    assert "<title>What the model read</title>" in dom
    assert "attacked</title>" not in dom


def test_marks_cover_exactly_what_differs() -> None:
    predicted, true = marked("1x34<", "1234")
    assert predicted == '1<span class="wrong">x</span>34<span class="wrong">&lt;</span>'
    assert true == '1<span class="missed">2</span>34'


def test_a_scan_is_shown_smaller_and_a_damaged_one_is_said_to_be() -> None:
    generator = random.Random(1)
    scan = Image.frombytes("L", (1700, 200), generator.randbytes(1700 * 200))
    buffer = io.BytesIO()
    scan.save(buffer, "PNG")
    (shown,) = Tags(_image("a scan", buffer.getvalue(), "png")).found
    kind, _, data = str(shown[1]["src"]).partition(";base64,")
    assert kind == "data:image/webp"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1600, 188)
    assert Tags(_image("a scan", b"no image" * 100_000, "png")).found[0][0] == "p"
    assert f"base64,{base64.b64encode(png('12')).decode()}" in _image("a card", png("12"), "png")


def test_samples_are_worst_first_with_the_best_among_them() -> None:
    samples = [{"character_accuracy": index / 100, "index": index} for index in range(100)]
    chosen = [sample["index"] for sample in choose_samples(samples, 8)]
    assert chosen == sorted(chosen)
    assert chosen[:4] == [0, 1, 2, 3]
    assert chosen[-1] == 99
    assert len(choose_samples(samples, 1)) == 1
    assert choose_samples(samples, 0) == []
    assert len(choose_samples(samples[:3], 8)) == 3


def test_losses_of_a_resumed_run_are_read_once_per_step(tmp_path: Path) -> None:
    lines = [
        '{"step": 1, "loss": 3}',
        '{"step": 2, "loss": 9}',
        '{"step": 2, "loss": 2}',
        '{"step": 3, "loss": NaN}',
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join([*lines, '{"note": "no loss here"}', '{"step": 4, "lo'])
    )
    assert read_losses(tmp_path) == [(1, 3.0), (2, 2.0)]
    assert read_losses(tmp_path / "nothing") == []


def test_the_moving_average_starts_unbiased_and_lies_within_the_values() -> None:
    assert smoothed([5.0]) == [5.0]
    assert smoothed([2.0] * 200) == pytest.approx([2.0] * 200)
    assert smoothed([4.0, 0.0, 4.0]) == [4.0, 0.0, 4.0]
    curve = smoothed([4.0, 0.0] * 100)
    assert curve[0] == 4.0 and all(0 < value <= 4 for value in curve)
    assert abs(curve[-1] - curve[-2]) < 1


def test_runs_without_losses_give_no_picture(tmp_path: Path, runs: list[Path]) -> None:
    assert loss_curves([]) == loss_curves([tmp_path]) == ""
    assert loss_curves([tmp_path, *runs]).count("<svg") == 1
    assert loss_curves(runs) == loss_curves(runs)


def test_five_lines_stay_five_lines() -> None:
    summary = {
        "headline": "card", "character_accuracy": 0.9632, "exact_match": 0.88, "character_accuracy_shuffled": 0.112,
        "chance": 0.11, "datasets": {"card": {"character_accuracy": 0.9632}, "page": {"character_accuracy": 0.4}},
        "checkpoint": "/runs/checkpoint",
    }  # fmt: skip
    lines = five_lines(summary)
    assert len(lines) == 5
    assert "96.3 %" in lines[0] and "11.2 %" in lines[1] and "page 40.0 %" in lines[2]
    assert lines[3] == "Time and memory were not measured."
    assert five_lines(summary | {"seconds": 492.3, "peak_memory_gib": 3.1})[3].startswith("Took 8 min 12 s")
    assert len(five_lines(summary | {"character_accuracy_shuffled": None, "chance": None})) == 5


def test_numbers_for_people() -> None:
    assert (percent(None), percent(0.5)) == ("-", "50.0 %")
    assert (duration(59.4), duration(60), duration(119.6)) == ("59 s", "1 min 0 s", "2 min 0 s")
