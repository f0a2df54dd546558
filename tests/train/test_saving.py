"""Saving, in the foreground and beside training: the same bytes, and nothing half-published whatever happens."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import Material
from tests.train.forks import Forks
from tests.train.test_broken_runs import ALONE, assert_same
from tests.train.test_run import metrics
from train.checkpoint import Checkpoint
from train.host_room import ALIGNMENT, HostRoom

BEHIND = "checkpoint.asynchronous=true"
WAYS = ["checkpoint.asynchronous=false", BEHIND]
SLOW: dict[str, Any] = {"fault": "slow", "step": 2, "seconds": 1.0}


def test_room_keeps_copies_and_is_used_again() -> None:
    tensors = [torch.arange(5.0), torch.ones(3, 7, dtype=torch.bfloat16).t(), torch.tensor(2)]
    room = HostRoom(HostRoom.bytes_for([tensor.nbytes for tensor in tensors]), torch.device("cpu"))
    before = [tensor.clone() for tensor in tensors]
    kept = [room.keep(tensor) for tensor in tensors]
    room.complete()
    for tensor in tensors:
        tensor.zero_()
    assert all(
        torch.equal(copy, old) and copy.is_contiguous() for copy, old in zip(kept, before, strict=True)
    )
    places = [copy.data_ptr() for copy in kept]
    assert places == [places[0] + number * ALIGNMENT for number in range(3)]
    room.clear()
    assert room.keep(tensors[0]).data_ptr() == places[0] and not kept[0].any()


def test_a_host_without_memory_is_told_what_to_set() -> None:
    with pytest.raises(OSError, match=r"the host has no 1,048,576.0 GiB .* checkpoint.asynchronous=false"):
        HostRoom(2**50, torch.device("cpu"))


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("outputs")) as started:
        yield started


@pytest.fixture(scope="module")
def whole(forks: Forks, material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps, saved in the foreground after every one, all kept."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    arguments = [*ALONE, "checkpoint.every=1", f"run={run}", *material.arguments]
    status, output = forks.train(arguments)
    assert status == 0, output
    return run


def checkpoints(run: Path) -> dict[int, Checkpoint]:
    """All of a run, each of them whole."""
    paths = run.glob("checkpoints/step_*")
    return {int(path.name[5:]): Checkpoint.open(path) for path in sorted(paths)}


@pytest.mark.slow
def test_training_goes_on_while_the_same_bytes_are_written(
    forks: Forks, material: Material, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    status, output = forks.train([*ALONE, BEHIND, f"run={run}", *material.arguments], [SLOW])
    assert status == 0, output
    assert output.index("step 3 ") < output.index("saved step_2 in ")
    assert (
        output.index("saved step_2 in ") < output.index("saved step_4 in ") < output.index("saved step_6 in ")
    )
    said = re.search(r"saved step_2 in (\d+\.\d) s, standing still for (\d+\.\d) s\n", output)
    assert said and float(said[1]) >= SLOW["seconds"]
    found, expected = checkpoints(run), checkpoints(whole)
    assert list(found) == [2, 4, 6]
    for step, checkpoint in found.items():
        assert checkpoint.manifest == expected[step].manifest, "checksums of every file, guard, reader"
    assert_same(whole, run)
    assert not list((run / "checkpoints").glob(".*"))
    (stage,) = json.loads((run / "stage_table.json").read_text())["stages"]
    size = (run / "checkpoints/step_6/stage_0.safetensors").stat().st_size
    assert size / 2**30 == pytest.approx(stage["checkpoint_gib"], rel=0.005), "but for names and shapes"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_knows_nothing_of_the_steps_after_it(
    forks: Forks, material: Material, tmp_path: Path, way: str
) -> None:
    """Step 3 is left out while step 2 is still being written."""
    run = tmp_path / "run"
    guard = ["guard.spike_factor=20", "guard.window=2", "guard.action=skip"]
    status, output = forks.train(
        [*ALONE, *guard, way, f"run={run}", *material.arguments], [SLOW, {"fault": "spike", "step": 2}]
    )
    assert status == 0, output
    assert (output.index("step 3 is left out") < output.index("saved step_2 in ")) == (way == BEHIND)
    assert [c.manifest["guard"]["skipped"] for c in checkpoints(run).values()] == [[], [3], [3]]
    assert [c.optimizer_steps for c in checkpoints(run).values()] == [2, 3, 5]


@pytest.mark.slow
@pytest.mark.parametrize("way", [WAYS[0], pytest.param(BEHIND, marks=pytest.mark.thorough)])
def test_killed_in_every_phase_of_saving(
    forks: Forks, material: Material, whole: Path, tmp_path: Path, way: str
) -> None:
    run = tmp_path / "run"
    keep = ["checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.pin=[1]"]
    phases = [  # what is killed, and the newest whole checkpoint afterwards
        ("die_writing", 2, 1),
        ("die_before_rename", 3, 2),
        ("die_after_rename", 4, 4),
        ("die_removing", 3, 5),
    ]
    faults = [{"fault": fault, "step": step, "once": str(tmp_path / fault)} for fault, step, _ in phases]
    arguments = [*ALONE, *keep, way, f"run={run}", *material.arguments]
    for fault, _, newest in phases:
        status, output = forks.train(arguments, faults)
        assert status == -signal.SIGKILL, f"{fault}: {output}"
        assert max(checkpoints(run)) == newest, fault
    status, output = forks.train(arguments, faults)
    assert status == 0 and "going on from checkpoint step_5" in output, output
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["step_1", "step_5", "step_6"], "the pinned one, the last two, and no remains"
    assert_same(whole, run)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_while_saving_costs_one_checkpoint(
    forks: Forks, material: Material, whole: Path, tmp_path: Path, way: str
) -> None:
    run = tmp_path / "run"
    arguments = [*ALONE, "checkpoint.on_failure=continue", way, f"run={run}", *material.arguments]
    status, output = forks.train(arguments, [{"fault": "full", "step": 4}])
    assert status == 0, output
    assert "checkpoint step_4 cannot be written: No space left on device; going on without it" in output
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_2", "step_6"]
    assert_same(whole, run)


ENDS = [  # what ends the run while step_2 is being written, its status, what it says, and the newest checkpoint
    ("terminate", 128 + signal.SIGTERM, "stopped as asked at step 3 of 6", 3),
    ("nan", 2, "error: step 3: the loss is not finite", 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "status", "sentence", "newest"), ENDS, ids=[end[0] for end in ENDS])
def test_a_run_that_ends_waits_for_what_is_being_written(
    forks: Forks, material: Material, tmp_path: Path, fault: str, status: int, sentence: str, newest: int
) -> None:
    run = tmp_path / "run"
    arguments = [*ALONE, BEHIND, f"run={run}", *material.arguments]
    found, output = forks.train(arguments, [SLOW, {"fault": fault, "step": 2}])
    assert found == status and sentence in output, output
    assert list(checkpoints(run)) == sorted({2, newest})
    assert (run / "latest").read_text() == f"step_{newest}\n"
    assert "saved step_2 in " in (run / "log.txt").read_text()
    assert metrics(run)[-1]["step"] == newest
    assert not list((run / "checkpoints").glob(".*"))
