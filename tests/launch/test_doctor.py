"""launch/doctor: what it finds wrong, from reports of invented machines, and one real examination."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import doctor
import pytest
from doctor import Keys, findings, ranks_of, read_keys

from tests.launch.nodes import ROOT, clean

KEYS = Keys(shared="/shared", space=50)


def report(rank: int, host: str = "node-0", **more: Any) -> dict[str, Any]:
    """A healthy process on a GPU."""
    card = {
        "count": 8, "name": "NVIDIA A100", "capability": "8.0", "memory_gib": 40.0, "free_gib": 39.5,
        "driver": "550.54", "ecc_errors": 0,
    }  # fmt: skip
    limits = {
        "open_files": 65536, "locked_bytes": -1, "processes": -1, "shared_memory_gib": 64.0, "cores": 64,
    }  # fmt: skip
    healthy = {
        "rank": rank, "local_rank": rank % 8, "host": host, "boot": host, "gpu": card, "limits": limits,
        "versions": {"torch": "2.13.0", "nccl": "2.27"}, "clock_offset": 0.001, "shared": "",
        "disk": {"free_gib": 900.0, "free_files": 10**7}, "all_reduce": 180.0, "neighbour": 20.0 if rank else 0.0,
        "matmul": 250.0, "memory": 1300.0,
    }  # fmt: skip
    for key, value in more.items():
        healthy[key] = {**healthy[key], **value} if isinstance(value, dict) else value
    return healthy


def only(reports: list[dict], keys: Keys = KEYS) -> str:
    found = findings(reports, keys)
    assert len(found) == 1, found
    return found[0]


def test_healthy_machines_have_no_findings() -> None:
    assert findings([report(rank, f"node-{rank // 8}") for rank in range(16)], KEYS) == []


@pytest.mark.parametrize(
    ("sick", "sentence"),
    [
        (
            {"versions": {"nccl": "2.21"}},
            "nccl is not the same everywhere: 2.27 on ranks 0-2 (node-0); 2.21 on rank 3",
        ),
        ({"versions": {"deepspeed": "0.19.8"}}, "deepspeed is not the same everywhere: absent on ranks 0-2"),
        ({"gpu": {"driver": "535.1"}}, "GPU driver is not the same everywhere"),
        ({"gpu": {"ecc_errors": 2}}, "rank 3 (node-1): the GPU has 2 uncorrected ECC errors"),
        ({"gpu": {"free_gib": 11.0}}, "only 11.0 of 40.0 GiB of the GPU are free"),
        ({"gpu": {"count": 2}}, "the node has 2 GPUs and more processes"),
        ({"limits": {"shared_memory_gib": 0.0625}}, "node-1: /dev/shm has 64 MiB free"),
        ({"limits": {"open_files": 1024}}, "node-1: only 1024 files may be open at once"),
        ({"limits": {"locked_bytes": 65536}}, "only 65536 bytes of memory may be locked"),
        ({"clock_offset": -3.25}, "node-1: the clock is 3.2 s behind rank 0's"),
        (
            {"shared": "what rank 0 has written is not there (No such file or directory)"},
            "on rank 3 (node-1).",
        ),
        ({"disk": {"free_gib": 3.0}}, "shared=/shared has 3.0 GiB free, less than space=50"),
        ({"disk": {"free_files": 12}}, "room for 12 more files"),
        ({"disk": {"error": "No such file or directory"}}, "cannot be used (No such file or directory)"),
        ({"matmul": 170.0}, "rank 3 (node-1): matrix products at 170 TFLOP/s, 68% of the median of 250"),
        ({"memory": 900.0}, "memory at 900 GB/s, 69% of the median"),
        ({"neighbour": 2.0}, "messages from the stage before at 2 GB/s, 10% of the median of 20"),
    ],
)
def test_one_sentence_per_finding(sick: dict[str, Any], sentence: str) -> None:
    found = only([report(0), report(1), report(2), report(3, "node-1", **sick)])
    assert sentence in found and found.endswith(".") and "\n" not in found


def test_a_bandwidth_can_be_demanded() -> None:
    reports = [report(rank) for rank in range(4)]
    found = findings(reports, Keys(bandwidth=200))
    assert found == [
        "neighbours in the pipeline exchange 20 GB/s, less than bandwidth=200.",
        "all-reduce runs at 180 GB/s, less than bandwidth=200.",
    ]


def test_a_fault_of_a_node_is_told_once() -> None:
    reports = [report(rank, clock_offset=5.0, limits={"open_files": 256}) for rank in range(8)]
    assert len(findings(reports, KEYS)) == 2


def test_ranks_are_named_shortly() -> None:
    assert ranks_of([report(5, "b")]) == "rank 5 (b)"
    assert ranks_of([report(2, "a"), report(3, "a")]) == "ranks 2-3 (a)"
    assert ranks_of([report(1, "a"), report(9, "b")]) == "ranks 1, 9 (a, b)"


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("stages=3", "does not divide the 4 processes"),
        ("space=much", "space=much is not a number"),
        ("verbose=1", "unknown argument 'verbose=1'; the keys are shared, stages"),
        ("tolerance=2", "tolerance between 0 and 1"),
    ],
)
def test_bad_keys_are_refused(monkeypatch: pytest.MonkeyPatch, argument: str, sentence: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(doctor.BadKeyError, match=r"^[^\n]*$") as refused:
        read_keys([argument])
    assert sentence in str(refused.value)


@pytest.mark.slow
def test_the_exit_status_says_that_something_was_found(tmp_path: Path) -> None:
    keys = ["stages=2", "side=64", "size=0.1", "tolerance=0.99", f"shared={tmp_path}", "space=1e9"]
    command = [str(ROOT / "launch/doctor"), "--processes", "2", *keys]
    result = subprocess.run(command, capture_output=True, text=True, env=clean(), timeout=120)
    assert result.returncode == 1
    assert "all-reduce over 2 processes" in result.stdout
    assert f": shared={tmp_path} has " in result.stdout and "less than space=1e+09." in result.stdout
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "the note of the examination is gone"
