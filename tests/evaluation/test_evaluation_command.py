"""The three steps with a real (random) checkpoint: resuming, the control, and what is refused."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_engine.command_line import ConfigError, compose
from data_engine.dataset import open_datasets
from evaluation import predict
from evaluation.command import evaluate
from evaluation.config import EvaluationConfig, ReadConfig
from evaluation.predictions import read_predictions
from evaluation.questions import Modes, cases_of
from evaluation.read import read_page
from model.views import ImageError, open_image
from tests.evaluation.conftest import MODE, make_dataset, png


def quiet(_done: int, _wanted: int) -> None:
    pass


def configured(checkpoint: Path, heldout: Path, out: Path, *more: str) -> EvaluationConfig:
    arguments = [
        f"checkpoint={checkpoint}",
        f"data={heldout}",
        f"out={out}",
        "max_new_tokens=6",
        "batch_size=4",
    ]
    return compose(EvaluationConfig, [*arguments, f"modes.default={MODE}", *more])


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m evaluation ARGUMENTS` in this process, which has loaded torch already: status, output, errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluation", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("evaluation", run_name="__main__")
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def evaluated(checkpoint: Path, heldout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "report"
    evaluate(configured(checkpoint, heldout, out), quiet)
    return out


def test_the_summary_holds_what_was_promised(evaluated: Path, checkpoint: Path, heldout: Path) -> None:
    summary = json.loads((evaluated / "summary.json").read_text())
    for key in ("character_accuracy", "character_accuracy_shuffled", "chance"):
        assert 0 <= summary[key] <= 1
    assert set(summary["datasets"]) == {"card", "figure"}
    assert summary["headline"] == "card"
    assert summary["checkpoint"] == str(checkpoint)
    assert summary["heldout"] == str(heldout)
    assert {"seconds", "peak_memory_gib"} <= set(summary)


def test_every_question_is_answered_once(evaluated: Path) -> None:
    predictions = read_predictions(evaluated / "predictions.jsonl")
    questions = [prediction.question for prediction in predictions]
    assert len(questions) == len(set(questions))
    own = [prediction for prediction in predictions if prediction.key == prediction.image_key]
    assert len(own) == 10
    # Cards share one prompt, so the control asks nothing new; the figures have two prompts, each for two samples.
    assert len(predictions) == 10
    for prediction in predictions:
        assert prediction.finish_reason in ("stop", "length")
        assert prediction.vision_tokens == 7  # 2 x 2 tokens, 2 newlines, 1 separator
        assert prediction.prompt_tokens > prediction.vision_tokens
        assert prediction.generated_tokens <= 6


def test_a_unique_prompt_is_decoded_with_another_image(checkpoint: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "data" / "figure", "figure", 3, seed=5)  # prompts: one unique, two equal
    out = tmp_path / "out"
    evaluate(configured(checkpoint, tmp_path / "data", out), quiet)
    predictions = read_predictions(out / "predictions.jsonl")
    assert len(predictions) == 4
    (borrowed,) = [prediction for prediction in predictions if prediction.key != prediction.image_key]
    assert (borrowed.key, borrowed.image_key) == ("figure-0000", "figure-0001")
    scores = json.loads((out / "scores.json").read_text())["datasets"]["figure"]
    assert scores["control_reused"] == pytest.approx(2 / 3)


def test_the_control_is_the_model_on_other_images(checkpoint: Path, heldout: Path, evaluated: Path) -> None:
    """Reusing predictions gives what decoding (own prompt, other image) gives."""
    config = configured(checkpoint, heldout, evaluated)
    reader = predict.Reader.load(config)
    known = {p.question: p for p in read_predictions(evaluated / "predictions.jsonl")}
    for name, dataset in open_datasets(heldout).items():
        cases = cases_of(name, dataset, 0, Modes({}, MODE), config.seed)
        lenders = [dataset.read(case.shuffled_index) for case in cases if case.shuffled_index is not None]
        images = [[open_image(image) for image in sample.images] for sample in lenders]
        answers = reader.answer([case.question.prompt for case in cases], images, MODE)
        assert [answer.text for answer in answers] == [known[c.shuffled].text for c in cases if c.shuffled]


def test_a_second_run_asks_only_what_is_missing(
    checkpoint: Path, heldout: Path, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    lines = (out / "predictions.jsonl").read_text().splitlines(keepends=True)
    (out / "predictions.jsonl").write_text("".join(lines[:7]) + lines[7][:20])
    asked: list[tuple[int, int]] = []
    evaluate(configured(checkpoint, heldout, out), lambda done, wanted: asked.append((done, wanted)))
    assert asked[-1] == (3, 3)
    assert len(read_predictions(out / "predictions.jsonl")) == 10
    for name in ("summary.json", "scores.json"):
        assert without_times(out / name) == without_times(evaluated / name)
    monkeypatch.setattr(predict.Reader, "load", None)  # all answered: the model is not even loaded
    evaluate(configured(checkpoint, heldout, out), quiet)


def test_fewer_or_more_samples_reuse_the_same_answers(
    checkpoint: Path, heldout: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate(configured(checkpoint, heldout, out, "samples=2"), quiet)
    asked: list[tuple[int, int]] = []
    evaluate(configured(checkpoint, heldout, out, "samples=4"), lambda *progress: asked.append(progress))
    assert asked[-1][1] <= 6


def test_steps_run_alone_and_measurements_are_merged(
    checkpoint: Path, heldout: Path, evaluated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConfigError, match="needs the predict step first"):
        evaluate(configured(checkpoint, heldout, out, "steps=[score]"), quiet)
    with pytest.raises(ConfigError, match="needs the score step first"):
        evaluate(configured(checkpoint, heldout, out, "steps=[report]"), quiet)
    shutil.copy(evaluated / "predictions.jsonl", out)
    evaluate(configured(checkpoint, heldout, out, "steps=[score]"), quiet)
    assert not (out / "index.html").exists()
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"seconds": 492.3, "peak_memory_gib": 3.25, "phases": {}}))
    evaluate(configured(checkpoint, heldout, out, "steps=[report]", f"measured={measured}"), quiet)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["seconds"], summary["peak_memory_gib"]) == (492.3, 3.25)
    assert "Took 8 min 12 s" in (out / "index.html").read_text()


def test_missing_predictions_are_named_and_count_as_empty(
    checkpoint: Path, heldout: Path, evaluated: Path, tmp_path: Path
) -> None:
    lines = (evaluated / "predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "predictions.jsonl").write_text("".join(lines[1:]))
    evaluate(configured(checkpoint, heldout, tmp_path, "steps=[score,report]"), quiet)
    card = json.loads((tmp_path / "scores.json").read_text())["datasets"]["card"]
    assert (card["samples"], card["missing"], card["missing_keys"]) == (6, 1, ["card-0000"])
    assert "no prediction" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_questions_beyond_the_context_are_not_asked_and_count_as_wrong(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "data" / "figure", "figure", 5, seed=3)  # two prompts, of different lengths
    # The image, the beginning of the text, a newline and the letters.
    lengths = {"Free OCR.": 7 + 1 + 10, "Parse the figure.": 7 + 1 + 18}
    monkeypatch.setattr(predict.Reader, "context", 20)
    summary = evaluate(configured(checkpoint, tmp_path / "data", tmp_path / "out"), quiet)
    told = read_predictions(tmp_path / "out" / "predictions.jsonl")
    for prediction in told:
        wanted = next(length for prompt, length in lengths.items() if prompt in prediction.prompt)
        assert prediction.prompt_tokens == wanted
        assert (prediction.finish_reason == "context") == (wanted >= 20)
        assert prediction.finish_reason != "context" or prediction.generated_tokens == 0
    assert summary["datasets"]["figure"]["beyond_context"] == 2
    figures = summary["datasets"]["figure"]["figures"]
    assert (figures["truncation"]["samples"], figures["exact_match"]["samples"]) == (3, 5)
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert "2 longer than the context (figure-0000, figure-0003)" in tables
    assert "longer than the context" in (tmp_path / "out" / "index.html").read_text()


def test_an_image_that_cannot_be_decoded_is_named(
    checkpoint: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undecodable(_data: bytes) -> None:
        raise ImageError("image is truncated.")

    monkeypatch.setattr(predict, "open_image", undecodable)
    with pytest.raises(ConfigError, match="an image of card/card-0000 cannot be used: image is truncated"):
        evaluate(configured(checkpoint, heldout, tmp_path / "out"), quiet)


def test_a_gpu_that_is_too_small_is_one_sentence(
    checkpoint: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(predict.Reader, "answer", too_much)
    with pytest.raises(
        ConfigError, match="too small for 4 samples in mode nano_tiny: give a smaller batch_size="
    ):
        evaluate(configured(checkpoint, heldout, tmp_path / "out"), quiet)


def test_modes_recorded_in_the_checkpoint_are_used(checkpoint: Path, heldout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, copy)
    modes = {"default": "nano_tiny", "figure": "nano_small"}
    (copy / "processor_config.json").write_text(json.dumps({"patch_size": 16, "resolution_modes": modes}))
    config = compose(
        EvaluationConfig,
        [f"checkpoint={copy}", f"data={heldout}", f"out={tmp_path / 'out'}", "max_new_tokens=2", "samples=2"],
    )
    evaluate(config, quiet)
    seen = {p.dataset: p.mode for p in read_predictions(tmp_path / "out" / "predictions.jsonl")}
    assert seen == {"card": "nano_tiny", "figure": "nano_small"}


def test_reading_one_page_prints_its_text(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    page.write_bytes(png("2718"))
    status, output, errors = command(
        f"read={page}", f"checkpoint={checkpoint}", f"mode={MODE}", "max_new_tokens=3"
    )
    assert (status, errors) == (0, "")
    config = compose(
        ReadConfig, [f"read={page}", f"checkpoint={checkpoint}", f"mode={MODE}", "max_new_tokens=3"]
    )
    pieces: list[str] = []
    assert output == read_page(config, pieces.append) + "\n"
    assert output == "".join(pieces) + "\n"


def without_times(path: Path) -> object:
    """The content of a JSON file without the figures that a clock makes."""
    clocked = {"tokens_per_second", "pages_per_day", "share_of_paper_speed"}
    return json.loads(
        path.read_text(), object_hook=lambda value: {k: v for k, v in value.items() if k not in clocked}
    )


def damaged(checkpoint: Path, target: Path, name: str, content: bytes) -> Path:
    shutil.copytree(checkpoint, target)
    (target / name).write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", b'{"model_type": "llama"}', "not a DeepSeek-OCR"),
        ("config.json", b"{", "not JSON"),
        ("model-00001-of-000001.safetensors", b"\x80\x04pickle", "model-00001-of-000001.safetensors"),
        ("tokenizer.json", b"{}", "tokenizer"),
        ("processor_config.json", b"[1]", "must map tasks to resolution modes"),
        (
            "processor_config.json",
            b'{"resolution_modes": {"default": 1}}',
            "must map tasks to resolution modes",
        ),
        (
            "processor_config.json",
            b'{"resolution_modes": {"default": "huge"}}',
            "mode huge of default is unknown",
        ),
    ],
)
def test_a_checkpoint_that_is_not_ours_is_refused(
    checkpoint: Path, heldout: Path, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    wrong = damaged(checkpoint, tmp_path / "wrong", name, content)
    arguments = [f"checkpoint={wrong}", f"data={heldout}", f"out={tmp_path / 'out'}"]
    modes = [] if name == "processor_config.json" else [f"modes.default={MODE}"]
    with pytest.raises(ConfigError, match=sentence):
        evaluate(compose(EvaluationConfig, arguments + modes), quiet)


@pytest.mark.parametrize(
    ("checkpoint_name", "data_name", "sentence"),
    [
        ("empty", "heldout", "has no config.json"),
        ("none", "heldout", "is no directory"),
        ("good", "empty", "holds no dataset"),
        ("good", "none", "does not exist"),
    ],
)
def test_missing_and_empty_directories_are_refused(
    checkpoint: Path, heldout: Path, tmp_path: Path, checkpoint_name: str, data_name: str, sentence: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"empty": empty, "none": tmp_path / "none", "good": checkpoint, "heldout": heldout}
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=sentence):
        evaluate(configured(places[checkpoint_name], places[data_name], out), quiet)
    assert not out.exists()


def test_a_refusal_is_one_sentence_without_a_traceback(
    command: Command, heldout: Path, tmp_path: Path
) -> None:
    status, _, errors = command(f"checkpoint={tmp_path}", f"data={heldout}", f"out={tmp_path / 'out'}")
    assert status == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("batch_sise=4", "batch_size"),
        ("batch_size=many", "batch_size"),
        ("batch_size=0", "at least 1"),
        ("samples=-1", "at least 0"),
        ("steps=[prediction]", "predict"),
        ("steps=[]", "does nothing"),
        ("dtype=float8", "float32"),
        ("prompt=Free OCR.", "must hold <image> once"),
        ("ngram_window=0", "at least 1"),
    ],
)
def test_wrong_keys_and_values_are_refused(argument: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        compose(EvaluationConfig, ["checkpoint=c", "data=d", "out=o", argument])


@pytest.mark.parametrize("missing", ["checkpoint", "data", "out"])
def test_required_keys_are_asked_for(missing: str) -> None:
    arguments = {"checkpoint": "c", "data": "d", "out": "o"}
    del arguments[missing]
    with pytest.raises(ConfigError, match=missing):
        compose(EvaluationConfig, [f"{key}={value}" for key, value in arguments.items()])


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("runs=[/nowhere/run]", "is no run directory"),
        ("measured=/nowhere/measured.json", "does not exist"),
        ("modes.card=huge", "resolution mode huge of card is unknown"),
        ("device=tpu", "device=tpu"),
    ],
)
def test_wrong_places_are_refused_before_anything_is_written(
    checkpoint: Path, heldout: Path, tmp_path: Path, argument: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        evaluate(configured(checkpoint, heldout, tmp_path / "out", argument), quiet)


def test_a_checkpoint_without_recorded_modes_asks_for_one(
    checkpoint: Path, heldout: Path, tmp_path: Path
) -> None:
    arguments = [f"checkpoint={checkpoint}", f"data={heldout}", f"out={tmp_path / 'out'}"]
    with pytest.raises(ConfigError, match="say which one to use"):
        evaluate(compose(EvaluationConfig, arguments), quiet)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no image", "not a readable"), (None, "does not exist"), (b"", "not a readable")],
)
def test_a_page_that_is_none_is_refused(
    checkpoint: Path, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    page = tmp_path / "page.png"
    if content is not None:
        page.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        read_page(compose(ReadConfig, [f"read={page}", f"checkpoint={checkpoint}", f"mode={MODE}"]), print)


def test_help_lists_every_key_of_both_commands(command: Command) -> None:
    status, output, _ = command("--help")
    assert status == 0
    for key in ("checkpoint", "max_new_tokens", "headline", "report_samples", "prompt"):
        assert f"  {key}  (" in output
