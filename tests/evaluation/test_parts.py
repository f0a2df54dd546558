"""Parts that several processes write: nothing is lost, nothing stands twice, and one file comes out."""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data_engine.job import Share
from evaluation.parts import LOCK, PredictionFile, join, read_answers
from evaluation.predictions import PREDICTIONS_FILE, SETTINGS_FILE, read_predictions
from tests.evaluation.test_predictions import ANSWER, SETTINGS
from tests.small_disks import mounted_disk

ANSWERS = [replace(ANSWER, key=f"k{i}", image_key=f"k{i}", text=str(i)) for i in range(8)]
ORDER = [answer.question for answer in ANSWERS]


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def test_who_reads_waits_for_who_joins(tmp_path: Path) -> None:
    """Else it would look for parts that are gone, or miss what they held."""
    PredictionFile(tmp_path, SETTINGS, Share(0, 2)).append(ANSWERS[:3])
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(read_answers(tmp_path))))
    with open(tmp_path / LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
    reader.join(10)
    assert found == [3]


def test_parts_of_any_number_of_processes_become_one_file_in_order(tmp_path: Path) -> None:
    written = {(0, 1): [5, 2], (2, 3): [7, 0], (1, 2): [1, 6]}
    for (rank, world), chosen in written.items():
        PredictionFile(tmp_path, SETTINGS, Share(rank, world)).append([ANSWERS[i] for i in chosen])
    assert len(read_answers(tmp_path)) == 6
    assert join(tmp_path, ORDER)
    assert read_predictions(tmp_path / PREDICTIONS_FILE) == [ANSWERS[i] for i in (0, 1, 2, 5, 6, 7)]
    assert files(tmp_path) == {PREDICTIONS_FILE, SETTINGS_FILE}
    before = (tmp_path / PREDICTIONS_FILE).stat().st_ino
    assert not join(tmp_path, ORDER)  # nothing to do: the file is left alone
    assert (tmp_path / PREDICTIONS_FILE).stat().st_ino == before
    PredictionFile(tmp_path, SETTINGS, Share(3, 4)).append([ANSWERS[i] for i in (4, 3)])
    assert join(tmp_path, ORDER)
    assert read_predictions(tmp_path / PREDICTIONS_FILE) == ANSWERS


def test_the_first_answer_to_a_question_counts(tmp_path: Path) -> None:
    for rank, text in enumerate(("first", "second")):
        PredictionFile(tmp_path, SETTINGS, Share(rank, 2)).append([replace(ANSWER, text=text)])
    join(tmp_path, [ANSWER.question])
    PredictionFile(tmp_path, SETTINGS).append([replace(ANSWER, text="third")])
    join(tmp_path, [ANSWER.question])
    assert [answer.text for answer in read_predictions(tmp_path / PREDICTIONS_FILE)] == ["first"]


def test_answers_of_another_evaluation_stay_before_ours(tmp_path: Path) -> None:
    other = [replace(answer, dataset="page") for answer in ANSWERS[::-1]]
    PredictionFile(tmp_path, SETTINGS).append([*ANSWERS[:2], *other])
    join(tmp_path, ORDER)
    assert read_predictions(tmp_path / PREDICTIONS_FILE) == [*other, *ANSWERS[:2]]


def test_joining_while_another_process_appends_loses_nothing(tmp_path: Path) -> None:
    file = PredictionFile(tmp_path, SETTINGS, Share(1, 2))
    many = [replace(ANSWER, image_key=f"k{i}") for i in range(20)]
    writer = threading.Thread(target=lambda: [file.append([answer]) for answer in many])
    writer.start()
    while writer.is_alive():
        join(tmp_path, [])
    writer.join()
    join(tmp_path, [])
    assert read_predictions(tmp_path / PREDICTIONS_FILE) == many


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "64k") as disk:
        yield disk


def test_a_full_disk_leaves_whole_answers_only(small_disk: Path) -> None:
    file = PredictionFile(small_disk, SETTINGS)
    long = replace(ANSWER, text="x" * 25_000)
    with pytest.raises(OSError) as full:
        file.append([replace(long, image_key=f"k{i}") for i in range(4)])
    assert full.value.errno == errno.ENOSPC
    assert len(PredictionFile(small_disk, SETTINGS).answers) == 2
