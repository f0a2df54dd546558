"""The fault matrix: what happens on clusters, and what a run that goes on afterwards computes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import Material
from tests.train.processes import REPOSITORY, environment, free_port, launch, run, succeeded
from tests.train.test_run import EXACT, SMALL, metrics, weights
from train.checkpoint import Checkpoint

BASE = ["experiment=nano_stage2", *SMALL, "micro_batches=2", "steps=6", "checkpoint.every=2"]
ALONE = [*BASE, "parallel.pipeline_stages=1", "parallel.cut=balanced"]
TWO = [*BASE, "parallel.pipeline_stages=2", "parallel.cut=[3]"]
FOUR = BASE


def faulty(faults: Sequence[dict[str, Any]], arguments: Sequence[str]) -> list[str]:
    return ["-m", "tests.train.faulty", json.dumps(list(faults)), *arguments]


def elastic(processes: int, restarts: int, target: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Under torchrun, which starts everything anew when a process ends badly."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes),
        "--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}",
        *target,
    ]  # fmt: skip
    return run(command, 200, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")


def assert_same(expected: Path, found: Path) -> None:
    """Every logged number and every weight, bit for bit."""
    left, right = metrics(expected), metrics(found)
    assert [row["step"] for row in left] == [row["step"] for row in right]
    for one, other in zip(left, right, strict=True):
        assert {key: one.get(key) for key in EXACT} == {key: other.get(key) for key in EXACT}
        assert one["task_loss"] == other["task_loss"]
    last = left[-1]["step"]
    one_weights, other_weights = weights(expected, last), weights(found, last)
    assert one_weights.keys() == other_weights.keys()
    assert all(torch.equal(one_weights[name], other_weights[name]) for name in one_weights)


@pytest.fixture(scope="module")
def alone(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in one process, uninterrupted, profiled and drawn."""
    directory = tmp_path_factory.mktemp("runs") / "alone"
    more = ["profile.steps=[2,3]", "logging.plots=true"]
    succeeded(launch(1, ["-m", "train", *ALONE, *more, f"run={directory}", *material.arguments]))
    return directory


@pytest.fixture(scope="module")
def pair(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in a pipeline of two processes, uninterrupted."""
    directory = tmp_path_factory.mktemp("runs") / "pair"
    succeeded(launch(2, ["-m", "train", *TWO, f"run={directory}", *material.arguments]))
    return directory


@pytest.mark.slow
def test_killed_stages_are_started_again_by_torchrun_and_compute_the_same(
    material: Material, pair: Path, tmp_path: Path
) -> None:
    faults = [
        {"fault": "kill", "rank": 1, "step": 2, "micro_batch": 1, "once": str(tmp_path / "killed_1")},
        {"fault": "kill", "rank": 0, "step": 5, "once": str(tmp_path / "killed_0")},
        {"fault": "sleep", "rank": 1, "step": 4, "seconds": 0.2},
    ]
    directory = tmp_path / "run"
    result = elastic(2, 2, faulty(faults, [*TWO, f"run={directory}", *material.arguments]))
    succeeded(result)
    log = (directory / "log.txt").read_text()
    assert "going on from checkpoint step_2" in log and "going on from checkpoint step_4" in log
    assert_same(pair, directory)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_stage_killed_while_it_writes_beside_training(
    material: Material, pair: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    fault = {"fault": "die_writing", "rank": 1, "step": 4, "once": str(tmp_path / "killed")}
    arguments = [*TWO, "checkpoint.asynchronous=true", f"run={directory}", *material.arguments]
    succeeded(elastic(2, 1, faulty([fault], arguments)))
    log = (directory / "log.txt").read_text()
    assert log.count("going on from checkpoint") == log.count("going on from checkpoint step_2 of 6") == 1
    assert_same(pair, directory)
    assert not list((directory / "checkpoints").glob(".*")), "what was half-written is gone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "arguments", "rank", "place"),
    [
        pytest.param(
            2, ALONE, 1, "stage 0 (micro-batch 1 of data-parallel rank 1)", marks=pytest.mark.thorough
        ),
        pytest.param(
            2, TWO, 0, "stage 0 (micro-batch 1 of data-parallel rank 0)", marks=pytest.mark.thorough
        ),
        (4, FOUR, 3, "stage 3 (micro-batch 1 of data-parallel rank 0)"),
    ],
    ids=["two replicas", "two stages", "four stages"],
)
def test_nan_in_one_micro_batch_stops_all_before_the_optimizer(
    material: Material, tmp_path: Path, processes: int, arguments: list[str], rank: int, place: str
) -> None:
    directory = tmp_path / "run"
    fault = {"fault": "nan", "rank": rank, "step": 2, "micro_batch": 1}
    result = launch(processes, faulty([fault], [*arguments, f"run={directory}", *material.arguments]))
    assert result.returncode != 0
    assert f"error: step 3: the loss is not finite, first in the output of {place}" in result.stderr
    assert result.stderr.count("error: step") == 1, "one rank says it, not all"
    assert "skip_steps=[[3,3]]" in result.stderr
    record = json.loads((directory / "broken_steps.jsonl").read_text())
    (samples,) = record["samples"].values()
    assert samples and all(sample.startswith("card/") for sample in samples)
    assert f"samples {samples[0]}" in result.stderr
    assert (directory / "latest").read_text() == "step_2\n"
    assert all(torch.isfinite(tensor).all() for tensor in weights(directory, 2).values())
    assert Checkpoint.open(directory / "checkpoints/step_2").step == 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.thorough)])
def test_a_spike_that_is_left_out_stays_out_and_is_as_if_the_user_had_named_it(
    material: Material, tmp_path: Path, precision: str
) -> None:
    guarded, named = tmp_path / "guarded", tmp_path / "named"
    guard = [f"precision={precision}", "guard.spike_factor=20", "guard.window=2", "guard.action=skip"]
    faults = [
        {"fault": "spike", "step": 3},
        {"fault": "kill", "step": 4, "once": str(tmp_path / "killed")},
    ]
    target = faulty(faults, [*ALONE, *guard, f"run={guarded}", *material.arguments])
    assert launch(1, target).returncode == -signal.SIGKILL
    assert Checkpoint.open(guarded / "checkpoints/step_4").manifest["guard"]["skipped"] == [4]
    succeeded(launch(1, target))
    log = (guarded / "log.txt").read_text()
    assert (
        "step 4 is left out: its loss" in log
        and "micro-batch 0 of data-parallel rank 0; its gradient norm" in log
    )
    assert "going on from checkpoint step_4 of 6 steps, without step 4\n" in log
    record = json.loads((guarded / "broken_steps.jsonl").read_text())
    (samples,) = record["samples"].values()
    assert record["step"] == 4 and f"; samples {samples[0]}" in log
    rows = metrics(guarded)
    assert rows[3]["skipped_steps"] == [4] and rows[3]["loss"] > 10 * rows[2]["loss"]
    assert all("skipped_steps" not in row for row in rows[:3] + rows[4:])
    succeeded(
        launch(
            1, ["-m", "train", *ALONE, guard[0], "skip_steps=[[4,4]]", f"run={named}", *material.arguments]
        )
    )
    assert "passing over step 4, as skip_steps says\n" in (named / "log.txt").read_text()
    assert metrics(named)[3]["skipped_steps"] == [4] and "loss" not in metrics(named)[3]
    assert [row["loss"] for row in metrics(named)[4:]] == [row["loss"] for row in rows[4:]]
    one, other = weights(guarded, 6), weights(named, 6)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert Checkpoint.open(named / "checkpoints/step_6").optimizer_steps == 5


@pytest.mark.slow
def test_a_full_disk_of_one_rank_stops_all_in_one_sentence(
    material: Material, pair: Path, tmp_path: Path
) -> None:
    """While the next step is trained: all ranks learn it after that step. `test_saving` has the rest of saving."""
    directory = tmp_path / "run"
    fault = {"fault": "full", "step": 4, "rank": 1}
    arguments = [*TWO, "checkpoint.asynchronous=true", f"run={directory}", *material.arguments]
    result = launch(2, faulty([fault], arguments))
    assert result.returncode != 0
    sentence = "error: checkpoint step_4 cannot be written: No space left on device"
    assert result.stderr.count(sentence) == 1, result.stderr
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["step_2"]
    saved, expected = (Checkpoint.open(run / "checkpoints/step_2") for run in (directory, pair))
    assert saved.manifest == expected.manifest, "the same bytes as in the foreground"


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_by_its_watchdog_with_its_stacks(
    material: Material, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    arguments = [*ALONE, "watchdog=3", f"run={directory}", *material.arguments]
    result = launch(1, faulty([{"fault": "hang", "step": 3}], arguments), timeout=120)
    assert result.returncode == 1
    stacks = (directory / "stacks/rank0.txt").read_text()
    assert "Timeout (0:00:03)!" in stacks and "hang_here" in stacks and "_live" in stacks, "all threads"
    beat = json.loads((directory / "heartbeat/rank0.json").read_text())
    assert (beat["phase"], beat["step"], beat["rank"]) == ("step", 3, 0)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_frozen_neighbour_is_noticed_within_the_timeout(
    material: Material, pair: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    fault = {"fault": "freeze", "rank": 1, "step": 3, "once": str(tmp_path / "frozen")}
    target = faulty([fault], [*TWO, "timeout=5", f"run={directory}", *material.arguments])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = [
        subprocess.Popen(
            [sys.executable, *target], cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment(**world, RANK=str(rank), LOCAL_RANK=str(rank)),
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        while not (tmp_path / "frozen").exists():
            assert both[0].poll() is None and both[1].poll() is None
            time.sleep(0.1)
        assert both[0].wait(timeout=120) != 0, "torch's own timeouts are 10 and 30 minutes"
    finally:
        for process in both:
            process.kill()
            process.communicate()
    succeeded(launch(2, ["-m", "train", *TWO, f"run={directory}", *material.arguments]))
    assert_same(pair, directory)


@pytest.mark.slow
def test_a_second_run_in_the_same_directory_is_refused_and_the_first_goes_on(
    material: Material, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    arguments = [*ALONE, "steps=4000", "optimizer.schedule=constant", f"run={directory}", *material.arguments]
    with subprocess.Popen(
        [sys.executable, "-m", "train", *arguments], cwd=REPOSITORY, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as first:  # fmt: skip
        try:
            assert first.stdout is not None
            next(line for line in first.stdout if line.startswith("step 1 "))
            second = run([sys.executable, "-m", "train", *arguments], 60)
            assert second.returncode == 2
            assert f"another run is at work in run={directory} (process {first.pid} on " in second.stderr
            (directory / "control/pin").touch()
            next(line for line in first.stdout if line.startswith("saved "))
            (directory / "control/stop").touch()
            rest, _ = first.communicate(timeout=120)
        finally:
            first.kill()
    assert first.returncode == 0 and "stopped as asked" in rest
    assert len(list((directory / "checkpoints").glob("step_*/pinned"))) == 1
    assert (directory / ".lock").read_text() == "", "released"


@pytest.mark.slow
def test_what_a_run_shows(alone: Path, pair: Path) -> None:
    for row in metrics(alone) + metrics(pair):
        tokens, losses = row["task_tokens"], row["task_loss"]
        mean = sum(losses[task] * tokens[task] for task in tokens) / sum(tokens.values())
        assert mean == pytest.approx(row["loss_mean"], rel=1e-5)
        assert set(row["mode_loss"]) == {"nano_tiny"}
        shares = [row[f"{part}_share"] for part in ("compute", "wait", "update", "data_wait")]
        assert all(share >= 0 for share in shares) and sum(shares) < 1.2
        assert row["idle_experts"] >= 0
    assert metrics(pair)[-1]["bubble_1f1b"] == pytest.approx(1 / 3)
    assert 0 < metrics(pair)[-1]["bubble_share"] < 1
    assert len(metrics(pair)[-1]["stage_peak_memory_gib"]) == 2
    assert (alone / "profile/rank0_steps_2-3.json.gz").stat().st_size > 1000
    assert "<svg" in (alone / "report/training.svg").read_text()
    assert not (alone / "stacks/rank0.txt").exists()
    shutil.rmtree(alone / "profile")
    assert os.listdir(alone / "heartbeat") == ["rank0.json"]
