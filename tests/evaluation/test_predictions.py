from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError
from evaluation.parts import PredictionFile
from evaluation.predictions import PREDICTIONS_FILE, SETTINGS_FILE, Prediction, read_predictions

ANSWER = Prediction("card", "k0", "k0", "<image>\nFree OCR.", "nano_tiny", "12\n漢", "stop", 20, 7, 5, 0.1)
SETTINGS = {"checkpoint": "a" * 64, "max_new_tokens": 8, "dataset card": "f"}


def test_answers_of_two_models_never_mix(tmp_path: Path) -> None:
    PredictionFile(tmp_path, SETTINGS).append([ANSWER])
    with pytest.raises(
        ConfigError, match="made with another checkpoint, max_new_tokens; choose another out="
    ):
        PredictionFile(tmp_path, SETTINGS | {"checkpoint": "b" * 64, "max_new_tokens": 9})


def test_predictions_of_another_dataset_of_that_name_are_refused(tmp_path: Path) -> None:
    PredictionFile(tmp_path, SETTINGS).append([ANSWER])
    with pytest.raises(ConfigError, match="another dataset card"):
        PredictionFile(tmp_path, SETTINGS | {"dataset card": "g"})
    joined = PredictionFile(tmp_path, SETTINGS | {"dataset page": "h"})
    assert len(joined.answers) == 1
    with pytest.raises(ConfigError, match="another dataset page"):
        PredictionFile(tmp_path, SETTINGS | {"dataset page": "i"})


def test_predictions_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    PredictionFile(tmp_path, SETTINGS).append([ANSWER])
    (tmp_path / SETTINGS_FILE).unlink()
    with pytest.raises(ConfigError, match="origin is unknown"):
        PredictionFile(tmp_path, SETTINGS)


@pytest.mark.parametrize("line", ["not json", "[1]", '{"dataset": "card"}', "null"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / PREDICTIONS_FILE
    path.write_text(json.dumps(asdict(ANSWER)) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=f"{PREDICTIONS_FILE}, line 2"):
        read_predictions(path)
