from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError
from evaluation.predictions import (
    PREDICTIONS_FILE,
    SETTINGS_FILE,
    Prediction,
    PredictionFile,
    read_predictions,
)

ANSWER = Prediction("card", "k0", "k0", "<image>\nFree OCR.", "nano_tiny", "12\n漢", "stop", 20, 7, 5, 0.1)
SETTINGS = {"checkpoint": "a" * 64, "max_new_tokens": 8, "dataset card": "f"}


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    file = PredictionFile(tmp_path, SETTINGS)
    second = replace(ANSWER, key="k1", image_key="k1", text="")
    file.append([ANSWER, second])
    assert read_predictions(file.path) == [ANSWER, second]
    assert PredictionFile(tmp_path, SETTINGS).answers == {ANSWER.question: ANSWER, second.question: second}


def test_text_that_is_no_valid_unicode_does_not_stop_the_run(tmp_path: Path) -> None:
    file = PredictionFile(tmp_path, SETTINGS)
    file.append([replace(ANSWER, text="\ud800 half a surrogate")])
    assert len(read_predictions(file.path)) == 1


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_is_cut_off_and_asked_again(tmp_path: Path, cut: int) -> None:
    file = PredictionFile(tmp_path, SETTINGS)
    file.append([ANSWER, replace(ANSWER, image_key="k1")])
    file.path.write_bytes(file.path.read_bytes()[:-cut])
    opened = PredictionFile(tmp_path, SETTINGS)
    assert list(opened.answers.values()) == [ANSWER]
    opened.append([replace(ANSWER, image_key="k1")])
    assert len(read_predictions(opened.path)) == 2


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
    PredictionFile(tmp_path, SETTINGS).append([ANSWER])
    path = tmp_path / PREDICTIONS_FILE
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=f"{PREDICTIONS_FILE}, line 2"):
        read_predictions(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_whole_answers_only(small_disk: Path) -> None:
    file = PredictionFile(small_disk, SETTINGS)
    long = replace(ANSWER, text="x" * 25_000)
    with pytest.raises(OSError) as full:
        file.append([replace(long, image_key=f"k{i}") for i in range(4)])
    assert full.value.errno == errno.ENOSPC
    assert len(PredictionFile(small_disk, SETTINGS).answers) == 2
