"""Predicting with several processes: shares, devices, and a run of three, one of them killed, that two finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from data_engine.command_line import ConfigError, compose
from data_engine.job import Share
from evaluation.command import evaluate
from evaluation.config import EvaluationConfig
from evaluation.predict import device_of
from evaluation.predictions import Prediction, read_predictions
from evaluation.processes import Process, own, this_process
from tests.evaluation.conftest import MODE, make_dataset


def quiet(_done: int, _wanted: int) -> None:
    pass


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("questions", "world"), [(0, 3), (2, 5), (100, 1), (1000, 7), (1001, 8)])
def test_every_question_is_in_exactly_one_share_and_shares_are_equal(questions: int, world: int) -> None:
    shares = [own(range(questions), Share(rank, world)) for rank in range(world)]
    assert sorted(number for share in shares for number in share) == list(range(questions))
    assert all(share == sorted(share) for share in shares)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_shares_neither_follow_a_pattern_in_the_data_nor_another_number_of_processes() -> None:
    share = own(range(8000), Share(0, 4))
    assert all(400 < count < 600 for count in Counter(number % 4 for number in share).values())
    left_over = set(own(range(8000), Share(1, 2)))  # what a killed process of two has left, for four others
    parts = [len(left_over & set(own(range(8000), Share(rank, 4)))) for rank in range(4)]
    assert all(900 < part < 1100 for part in parts)


@pytest.mark.parametrize(
    ("rank", "world", "environment", "expected"),
    [
        (None, None, {}, Process()),
        (None, None, {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Process(Share(2, 4), 1)),
        (None, None, {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Process()),
        # A plain command within a job of Slurm is one evaluation and no share of one.
        (None, None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Process()),
        (None, None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, Process()),
        (None, 8, {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, Process(Share(5, 8), 1)),
        (None, 8, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, Process(Share(3, 8))),
        (None, 4, {"JOB_COMPLETION_INDEX": "3"}, Process(Share(3, 4))),
        (1, 2, {}, Process(Share(1, 2))),
    ],
)
def test_who_says_which_process_this_is(
    rank: int | None, world: int | None, environment: dict[str, str], expected: Process
) -> None:
    assert this_process(rank, world, environment) == expected


@pytest.mark.parametrize(
    ("rank", "world", "environment", "sentence"),
    [
        (None, 2, {}, "needs rank=R world=N, or a launcher that says them"),
        (1, None, {}, "world is required"),
        (2, 2, {}, "rank=2 is not possible: give a number from 0 to 1"),
        (None, 3, {"RANK": "0", "WORLD_SIZE": "2"}, "the launcher says 2; give that number"),
        (None, None, {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "x"}, "LOCAL_RANK=x is not possible"),
    ],
)
def test_a_process_that_cannot_be_told_is_refused(
    rank: int | None, world: int | None, environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        this_process(rank, world, environment)


@pytest.mark.parametrize(
    ("name", "local_rank", "gpus", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 3, 8, "cuda:3"),
        ("cuda", 3, 8, "cuda:3"),
        ("auto", 3, 1, "cuda:0"),  # the launcher shows each process its own GPU, or they share one
        ("cuda:2", 3, 8, "cuda:2"),
        ("cpu", 3, 8, "cpu"),
    ],
)
def test_each_process_takes_the_gpu_of_its_number(
    name: str, local_rank: int, gpus: int, expected: str
) -> None:
    assert str(device_of(name, local_rank, gpus)) == expected


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("tpu", 8)])
def test_a_device_that_is_not_there_is_refused(name: str, gpus: int) -> None:
    with pytest.raises(ConfigError, match=f"device={name} is not possible"):
        device_of(name, 0, gpus)


def arguments(checkpoint: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [
        f"checkpoint={checkpoint}", f"data={data}", f"out={out}", f"modes.default={MODE}",
        "max_new_tokens=6", "batch_size=2", *more,
    ]  # fmt: skip


def predict_as(rank: int, world: int, more: list[str], part: Path | None = None) -> None:
    """One of several processes; with `part` it is killed after its first batch, in the middle of the next line."""

    def die(_done: int, _wanted: int) -> None:
        if part is not None:
            with part.open("a") as file:
                file.write('{"dataset": "card", "key": "ca')
            os.kill(os.getpid(), signal.SIGKILL)

    evaluate(compose(EvaluationConfig, more), die, Process(Share(rank, world)))


def exits(*calls: tuple) -> list[int | None]:
    """Exit status of processes that run `predict_as` side by side; forked, since each would load torch for seconds."""
    started = [get_context("fork").Process(target=predict_as, args=call) for call in calls]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=240)
    return [process.exitcode for process in started]


def without_times(predictions: list[Prediction]) -> list[Prediction]:
    return [replace(prediction, seconds=0.0) for prediction in predictions]


@pytest.mark.slow
def test_three_processes_one_of_them_killed_and_then_two_write_what_one_writes(
    checkpoint: Path, tmp_path: Path
) -> None:
    data, alone, shared = tmp_path / "data", tmp_path / "alone", tmp_path / "shared"
    for seed, (kind, count) in enumerate({"card": 10, "figure": 10}.items()):
        make_dataset(data / kind, kind, count, seed)
    evaluate(compose(EvaluationConfig, arguments(checkpoint, data, alone)), quiet)
    whole = without_times(read_predictions(alone / "predictions.jsonl"))

    more = arguments(checkpoint, data, shared)
    died = shared / "predictions.part-1-of-3.jsonl"
    assert exits((0, 3, more), (1, 3, more, died), (2, 3, more)) == [0, -signal.SIGKILL, 0]
    parts = sorted(path.name for path in shared.glob("predictions.*.jsonl"))
    assert parts == [f"predictions.part-{rank}-of-3.jsonl" for rank in range(3)]
    assert not (shared / "scores.json").exists()  # nobody has seen all answers
    assert 0 < sum(len(read_predictions(shared / part)) for part in parts) < len(whole)

    assert exits((0, 2, more), (1, 2, more)) == [0, 0]
    assert without_times(read_predictions(shared / "predictions.jsonl")) == whole
    assert not list(shared.glob("predictions.part-*"))
    scores = [json.loads((out / "scores.json").read_text())["samples"] for out in (alone, shared)]
    assert [s["prediction"] for s in scores[0]] == [s["prediction"] for s in scores[1]]
    assert (shared / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.thorough
def test_torchrun_shares_the_samples(checkpoint: Path, heldout: Path, tmp_path: Path) -> None:
    more = arguments(checkpoint, heldout, tmp_path / "shared")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "evaluation",
         *more],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_predictions(tmp_path / "shared" / "predictions.jsonl")) == 10
    assert done.stdout.count("Report: ") == 1  # whichever ended last
    assert done.stdout.count(" of 2: done") == 1
    assert "rank 0 of 2: predicted 5 of 5 samples" in done.stderr


@pytest.mark.slow
def test_the_score_step_joins_what_is_there_and_the_others_leave_it_to_rank_0(
    checkpoint: Path, heldout: Path, tmp_path: Path
) -> None:
    def step(name: str, process: Process) -> dict:
        config = compose(EvaluationConfig, arguments(checkpoint, heldout, tmp_path, f"steps=[{name}]"))
        return evaluate(config, quiet, process)

    assert step("predict", Process(Share(1, 2))) == {}
    assert not (tmp_path / "predictions.jsonl").exists()
    assert step("score", Process(Share(1, 2))) == {}
    summary = step("score", Process(Share(0, 2)))
    assert sum(score["missing"] for score in summary["datasets"].values()) == 5
    assert len(read_predictions(tmp_path / "predictions.jsonl")) == 5
    step("predict", Process())  # alone, it asks only what is left
    assert len(read_predictions(tmp_path / "predictions.jsonl")) == 10
