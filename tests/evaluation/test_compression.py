"""Precision against compression: own data read in several modes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError
from data_engine.dataset import open_datasets
from evaluation.command import evaluate
from evaluation.compression import FACTS, curves
from evaluation.config import EvaluationConfig


def silent(*_: object) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def answers(heldout: Path, tmp_path: Path) -> Path:
    """Everything right in small, the first half of every card in tiny."""
    for name, dataset in open_datasets(heldout).items():
        for mode, share in (("nano_tiny", 0.5), ("nano_small", 1.0)):
            directory = tmp_path / "answers" / f"{name}-{mode}"
            directory.mkdir(parents=True)
            for index in range(len(dataset)):
                text = dataset.read_text(index).response
                (directory / f"{dataset.key(index)}.md").write_text(text[: int(share * len(text))])
    return tmp_path / "answers"


def test_every_dataset_is_a_point_of_every_mode(
    heldout: Path, checkpoint: Path, answers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate(
        EvaluationConfig(
            predictions=str(answers),
            data=str(heldout),
            tokenizer=str(checkpoint),
            out=str(out),
            in_modes=["nano_tiny", "nano_small"],
            resamples=50,
        ),
        silent,
    )
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores["datasets"]) == {
        "card-nano_tiny", "card-nano_small", "figure-nano_tiny", "figure-nano_small",
    }  # fmt: skip
    by_mode = curves(scores, "mode", "compression")
    # Four digits are four tokens of this tokenizer; 128 px are 2 x 2 vision tokens, 192 px are 3 x 3.
    assert [point["compression"] for point in by_mode["nano_tiny"]] == [1.0, 1.0]
    assert [point["compression"] for point in by_mode["nano_small"]] == [4 / 9, 4 / 9]
    assert {point["value"] for point in by_mode["nano_tiny"]} == {0.5}
    assert {point["value"] for point in by_mode["nano_small"]} == {1.0}
    assert all(point["shuffled"] < 0.6 for points in by_mode.values() for point in points)
    by_page = curves(scores, "dataset", "vision_tokens")
    assert [(point["vision_tokens"], point["value"]) for point in by_page["card"]] == [(4.0, 0.5), (9.0, 1.0)]
    assert "| nano_small | 4.0 | 9.0 | 0.44x | 100.0 % (100.0 to 100.0) |" in (out / "tables.md").read_text()
    for name in ("compression", "forgetting"):
        assert "<svg" in (out / "plots" / f"{name}.svg").read_text()
        assert name == "compression" or "vision tokens spent" in (out / "index.html").read_text()


def test_answers_far_too_long_are_not_below_nothing() -> None:
    figure = {"value": -2.0, "low": -3.0, "high": 0.1}
    scores = {
        FACTS: {
            "card-nano_tiny": {
                "dataset": "card",
                "mode": "nano_tiny",
                "text_tokens": 8.0,
                "vision_tokens": 4.0,
            }
        },
        "datasets": {
            "card-nano_tiny": {"figures": {"character_accuracy": figure}, "character_accuracy_shuffled": None}
        },
    }
    (point,) = curves(scores, "mode", "compression")["nano_tiny"]
    assert (point["value"], point["low"], point["high"], point["compression"]) == (0.0, 0.0, 0.1, 2.0)
    assert "shuffled" not in point


def test_what_is_missing_is_said(heldout: Path, answers: Path, tmp_path: Path) -> None:
    given = {"predictions": str(answers), "data": str(heldout), "out": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match="text tokens are counted: give tokenizer=DIR"):
        evaluate(EvaluationConfig(**given, in_modes=["nano_tiny"]), silent)
    with pytest.raises(ConfigError, match="in_modes: resolution mode nano_huge is unknown; choose of"):
        evaluate(EvaluationConfig(**given, in_modes=["nano_huge"]), silent)
