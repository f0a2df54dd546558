"""Data that breaks under a training run: it stops with one sentence and a whole checkpoint, or goes on without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_engine.dataset import Dataset
from tests.train.conftest import Material
from tests.train.processes import REPOSITORY, environment, free_port, succeeded, train
from tests.train.test_run import SMALL, STAGE_2, metrics
from train.checkpoint import Checkpoint

STEPS = [*STAGE_2, "steps=4", "checkpoint.every=2", "damage.policy=blank"]


def flip(tar: Path, members: list[str]) -> None:
    content = bytearray(tar.read_bytes())
    for member in members:
        content[content.index(member.encode()) + 512 + 60] ^= 1
    tar.chmod(0o644)
    with open(tar, "r+b") as file:  # in place: whoever has it open meets it
        file.write(content)


def copy_of(material: Material, directory: Path) -> tuple[list[str], Path, Dataset]:
    """Arguments for a copy of the data, its one shard, and the data as it was."""
    shutil.copytree(material.data, directory)
    (tar,) = directory.glob("*/*.tar")
    arguments = [f"data={directory}", f"tokenizer={material.tokenizer}"]
    return arguments, tar, Dataset.open(material.data / tar.parent.name)


def quarantine(run: Path) -> list[dict]:
    return [
        json.loads(line)
        for path in sorted(run.glob("quarantine-rank*.jsonl"))
        for line in path.read_text().splitlines()
    ]


@pytest.mark.slow
@pytest.mark.thorough
def test_a_damaged_run_computes_the_same_in_another_cut_and_finds_the_same_samples(
    material: Material, tmp_path: Path
) -> None:
    arguments, tar, data = copy_of(material, tmp_path / "data")
    images = [f"{data.key(i)}.png" for i in range(0, len(data), 5)]
    texts = [f"{data.key(i)}.json" for i in range(2, len(data), 20)]
    flip(tar, images + texts)
    one, two = tmp_path / "one", tmp_path / "two"
    alone = ["parallel.pipeline_stages=1", "parallel.cut=balanced"]
    succeeded(train(1, *STEPS, *alone, f"run={one}", *arguments))
    found = quarantine(one)
    assert all(Path(row["shard"]) == tar for row in found)
    assert {f"{row['key']}.png" in images for row in found} == {True, False}, "images and texts"
    assert metrics(one)[-1]["damaged_samples"] == len(found)

    shutil.copytree(one, two)
    shutil.rmtree(two / "checkpoints/step_4")
    (two / "latest").write_text("step_2\n")
    (two / "quarantine-rank0.jsonl").unlink()
    cut = ["parallel.pipeline_stages=2", "parallel.cut=[3]", "workers=2"]
    succeeded(train(2, *STEPS, *cut, f"run={two}", *arguments))
    for left, right in zip(metrics(one), metrics(two), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
    assert all(row["sample"] in {other["sample"] for other in found} for row in quarantine(two))
    later = [row for row in found if row["step"] > 2]
    assert later and [row for row in quarantine(two) if row in later] == later


@pytest.mark.slow
def test_a_budget_that_is_used_up_stops_the_run(material: Material, tmp_path: Path) -> None:
    arguments, tar, data = copy_of(material, tmp_path / "data")
    flip(tar, [f"{data.key(i)}.png" for i in range(len(data))])
    alone = ["parallel.pipeline_stages=1", "parallel.cut=balanced", "damage.budget=3"]
    result = train(1, *STEPS, *alone, f"run={tmp_path / 'run'}", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: step 1: ") and result.stderr.count("\n") == 1
    assert "samples cannot be used, more than damage.budget=3" in result.stderr
    assert not (tmp_path / "run/latest").exists()


@pytest.mark.slow
def test_a_budget_that_is_used_up_on_the_way_leaves_what_was_learnt(
    material: Material, tmp_path: Path
) -> None:
    arguments, tar, data = copy_of(material, tmp_path / "data")
    flip(tar, [f"{data.key(i)}.png" for i in range(0, len(data), 5)])
    arguments += ["parallel.pipeline_stages=1", "parallel.cut=balanced", "checkpoint.every=100"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    succeeded(train(1, *STEPS, f"run={whole}", *arguments))
    at_first = [row for row in quarantine(whole) if row["step"] == 1]
    result = train(1, *STEPS, f"run={run}", f"damage.budget={len(at_first)}", *arguments)
    assert result.returncode == 2, result.stderr
    step = int((run / "latest").read_text().strip().removeprefix("step_"))
    assert 1 <= step < 4 and result.stderr.startswith(f"error: step {step + 1}: ")
    assert Checkpoint.open(run / f"checkpoints/step_{step}").step == step


@pytest.mark.slow
def test_damage_while_training_ends_all_processes_with_a_checkpoint(
    material: Material, tmp_path: Path
) -> None:
    arguments, tar, data = copy_of(material, tmp_path / "data")
    run = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4",
        "--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "train",
        "experiment=nano_stage2", *SMALL, "micro_batches=2", "steps=4000", "checkpoint.every=4000",
        f"run={run}", *arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 2 "):
                    break
            flip(tar, [f"{data.key(i)}.png" for i in range(len(data))])
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode != 0
    assert errors.count("error: sample ") == 1, errors[-3000:]
    assert "the checksum of its image does not match" in errors and "damage.policy=blank" in errors
    step = int((run / "latest").read_text().strip().removeprefix("step_"))
    assert step >= 2 and Checkpoint.open(run / f"checkpoints/step_{step}").step == step
    assert f"saved step_{step}" in (run / "log.txt").read_text()
    assert "ended by DamagedDataError: sample " in (run / "log.txt").read_text()
