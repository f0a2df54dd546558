"""launch/slurm.sbatch with commands in the place of Slurm's that start the tasks on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.nodes import ROOT, Started, clean, end, start

SCRIPT = ROOT / "launch" / "slurm.sbatch"
SRUN = """#!/usr/bin/env bash
# Every task of the step on this machine; what srun does with the statuses of tasks.
echo "srun $*" >>"$CALLS"
tasks=1
while [[ "$1" == --* ]]; do
    case "$1" in --nodes | --ntasks-per-node) shift 2 ;; --ntasks) tasks="$2"; shift 2 ;; *) shift ;; esac
done
children=()
for ((task = 0; task < tasks; task++)); do SLURM_PROCID=$task "$@" & children+=($!); done
status=0
for child in "${children[@]}"; do wait "$child" || status=$?; done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$CALLS"
case "$1 $2" in "show hostnames") printf '127.0.0.1\\n127.0.0.2\\n' ;; esac
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment as in a job of two nodes that has been requeued once."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        "PATH": f"{commands}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[0-1]", "SLURM_JOB_NUM_NODES": "2", "SLURM_RESTART_COUNT": "1",
        "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_CPUS_ON_NODE": "2",
    }  # fmt: skip


def calls(slurm: dict[str, str]) -> list[str]:
    return Path(slurm["CALLS"]).read_text().splitlines()


def submitted(slurm: dict[str, str], *arguments: str) -> Started:
    return start(["bash", str(SCRIPT), *arguments], **slurm)


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        ({"SLURM_JOB_ID": ""}, ["run=x"], "this script is for Slurm"),
        ({"SLURM_SUBMIT_DIR": "/"}, ["run=x"], "submit from the repository's directory"),
        ({}, ["experiment=nano_stage1"], "run is required"),
    ],
)
def test_refusals(slurm: dict[str, str], change: dict[str, str], arguments: list[str], sentence: str) -> None:
    result = subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env=clean(**slurm | change),
        timeout=60,
    )
    assert result.returncode == 2
    assert (
        result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and sentence in result.stderr
    )


def fake_launcher(slurm: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "launch").mkdir()
    launcher = tmp_path / "launch" / "torchrun"
    launcher.write_text(f"#!{sys.executable}\n{text}")
    launcher.chmod(0o755)
    slurm["SLURM_SUBMIT_DIR"] = str(tmp_path)


def test_every_node_gets_the_same_command_and_every_start_another_meeting(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    fake_launcher(slurm, tmp_path, "")
    assert end(submitted(slurm, "--processes", "4", "run=x", "modes={default: tiny}"), 20) == 0
    (step,) = [line for line in calls(slurm) if line.startswith("srun")]
    assert "--ntasks 2 --ntasks-per-node 1 --kill-on-bad-exit=1" in step
    assert "--nodes 2 --head 127.0.0.1 --port 24711 --id 4711-1 --restarts 3 --processes 4 run=x" in step
    assert not any("requeue" in line for line in calls(slurm))


def test_a_failed_step_fails_the_job(slurm: dict[str, str], tmp_path: Path) -> None:
    fake_launcher(slurm, tmp_path, "import os, sys\nsys.exit(9 * int(os.environ['SLURM_PROCID']))")
    assert end(submitted(slurm, "run=x"), 20) == 9


LEAVES = """
import os, sys, time, pathlib
run = pathlib.Path(next(a for a in sys.argv if a.startswith("run=")).removeprefix("run="))
stop = run / "control/stop"
stop.parent.mkdir(parents=True, exist_ok=True)
print("ready", flush=True)
while not stop.exists():
    time.sleep(0.02)
if os.environ["SLURM_PROCID"] == "0":
    time.sleep(0.1)
    stop.unlink()  # as a run that has just started, which removes what was asked of the one before it
    while not stop.exists():
        time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_before_the_limit_the_run_saves_and_the_job_goes_back_into_the_queue(
    slurm: dict[str, str], tmp_path: Path, number: signal.Signals, requeued: bool
) -> None:
    fake_launcher(slurm, tmp_path, LEAVES)
    job = submitted(slurm, f"run={tmp_path / 'run'}")
    assert job.stdout is not None
    assert [job.stdout.readline() for _ in range(2)] == ["ready\n", "ready\n"]
    os.kill(job.pid, number)
    started = time.monotonic()
    assert end(job, 20) == 0
    assert time.monotonic() - started > 0.9, "it has waited for the run, and asked again a second later"
    assert ("scontrol requeue 4711" in calls(slurm)) == requeued


@pytest.mark.slow
def test_two_nodes_of_a_job_meet(slurm: dict[str, str], tmp_path: Path) -> None:
    """The real launch/doctor on both; it may find something on this machine, and is not started again for that."""
    keys = [
        "--doctor",
        "--processes",
        "1",
        f"shared={tmp_path}",
        "stages=2",
        "side=64",
        "size=0.1",
        "space=0",
    ]
    job = submitted(slurm, *keys)
    assert end(job, 120) in (0, 1), job.errors
    assert job.output.count("all-reduce over 2 processes") == 1
    (step,) = [line for line in calls(slurm) if line.startswith("srun")]
    assert "--kill-on-bad-exit=0" in step and "launch/doctor --nodes 2" in step
