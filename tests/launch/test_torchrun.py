"""launch/torchrun: what it refuses, what it starts, on one node and on several, and what signals do."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import meeting
import pytest

from tests.launch.nodes import LAUNCHER, clean, end, start

WORKER = LAUNCHER.with_name("worker.py")


def dry(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LAUNCHER), "--dry-run", *arguments],
        capture_output=True,
        text=True,
        env=clean(**more),
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run=x"], "no GPU was found on this node; say how many processes to start: --processes N"),
        (["--processes", "two", "run=x"], "--processes two is not a number from 1 on"),
        (["--processes"], "--processes needs a value"),
        (["--processes", "2"], "nothing to start: give key=value arguments"),
        (["--proceses", "2", "run=x"], "unknown option --proceses"),
        (["--processes", "2", "run=x", "--nodes", "2"], "--nodes stands among the key=value arguments"),
        (["--processes", "2", "--nodes", "2", "run=x"], "2 nodes need --head HOST"),
        (["--processes", "2", "--nodes", "2", "--head", "localhost", "run=x"], "2 nodes need --id NAME"),
        (["--processes", "2", "--port", "70000", "run=x"], "--port 70000 is not a port"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(arguments: list[str], sentence: str) -> None:
    result = dry(*arguments, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert sentence in result.stderr


def test_a_python_that_is_not_there_is_refused() -> None:
    result = dry("--processes", "1", "run=x", PYTHON="python-of-tomorrow")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "PYTHON=python-of-tomorrow cannot be started" in result.stderr


def test_one_node_needs_no_meeting_and_shares_its_cores() -> None:
    words = shlex.split(dry("--processes", "64", "--restarts", "3", "run=x", "model={a: 1}").stdout)
    assert words[0] == "OMP_NUM_THREADS=1"
    assert "--standalone" in words and words[words.index("--max-restarts") + 1] == "3"
    assert words[-3:] == [str(WORKER), "run=x", "model={a: 1}"], "arguments keep their blanks"
    words = shlex.split(dry("--doctor", "--processes", "2", "--restarts", "3", "stages=2").stdout)
    assert words[words.index("--max-restarts") + 1] == "0", "what was found does not go away by a restart"


def test_gpus_are_counted_and_torchruns_own_variables_count() -> None:
    words = shlex.split(dry("run=x", CUDA_VISIBLE_DEVICES="4,5,6").stdout)
    assert words[words.index("--nproc-per-node") + 1] == "3"
    given = {
        "PET_NNODES": "2",
        "PET_RDZV_ENDPOINT": "127.0.0.1:2345",
        "PET_RDZV_ID": "j",
        "PET_NPROC_PER_NODE": "4",
    }
    words = shlex.split(dry("run=x", **given).stdout)
    assert words[words.index("--nproc-per-node") + 1] == "4"
    assert words[words.index("--rdzv-endpoint") + 1] == "127.0.0.1:2345"
    assert words[words.index("--rdzv-id") + 1] == "j"


def test_the_help_is_the_head_of_the_file() -> None:
    result = subprocess.run([str(LAUNCHER), "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "--nodes N" in result.stdout and "set -euo" not in result.stdout


def test_the_way_to_the_head_is_found() -> None:
    assert meeting.meeting("127.0.0.1", 29400, 0) == ("127.0.0.1", False, "-")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network besides its loopback")
        mine = probe.getsockname()[0]
    address, hosts, interface = meeting.meeting(mine, 29400, 0)
    assert (address, hosts) == (mine, True)
    assert interface in [name for _, name in socket.if_nameindex()]


def test_a_head_without_an_address_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        meeting.resolve("no-such-node.invalid", 29400, 0)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --head no-such-node.invalid has no address")


SLEEPER = """
import os, pathlib, sys, time
stop = pathlib.Path(sys.argv[1].removeprefix("run="), "control", "stop")
stop.parent.mkdir(parents=True, exist_ok=True)
stop.touch()
stop.unlink(missing_ok=True)  # a run that starts removes what was asked of the one before
print("ready", flush=True)
while not stop.exists():
    time.sleep(0.05)
stop.unlink(missing_ok=True)
time.sleep(float(os.environ.get("SAVING", "0")))
print("saved", flush=True)
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """In the place of Python: a run that leaves when control/stop is there. Signals and statuses are what is tested."""
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nfor run; do :; done\nexec {sys.executable} {script} "$run"\n')
    python.chmod(0o755)
    return python


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_lets_the_run_save_and_leave(
    tmp_path: Path, sleeper: Path, number: signal.Signals, status: int
) -> None:
    run = tmp_path / "run"
    command = [str(LAUNCHER), "--processes", "1", f"run={run}"]
    asked = start(command, PYTHON=str(sleeper), SAVING="0.5")
    other = start(command, PYTHON=str(sleeper), SAVING="0.5")  # another node of the same run
    for process in (asked, other):
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.kill(asked.pid, number)
    assert end(asked, 20) == status
    # The first has taken the request; a real run has one rank 0, which tells all others.
    (run / "control/stop").touch()
    assert end(other, 20) == 75
    assert asked.output.endswith("saved\n") and other.output.endswith("saved\n")
    assert "the run was interrupted (SIG" in other.errors and "the same command goes on" in other.errors


def test_a_run_that_ends_by_itself_returns_what_it_returned(tmp_path: Path) -> None:
    for script, status in (("exit 0", 0), ("exit 7", 7), ('echo refused >"$LAUNCH_REFUSED"; exit 1', 2)):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        (tmp_path / "run/control").mkdir(parents=True, exist_ok=True)
        (tmp_path / "run/control/interrupted").write_text("of an earlier start\n")
        command = [str(LAUNCHER), "--processes", "1", f"run={tmp_path / 'run'}"]
        assert end(start(command, PYTHON=str(python)), 20) == status


@pytest.mark.parametrize("status", [0, 1, 2])
def test_whoever_is_refused_asks_torchrun_to_leave(tmp_path: Path, status: int) -> None:
    package = tmp_path / "train"
    package.mkdir()
    (package / "__main__.py").write_text("import sys; sys.exit(int(sys.argv[1]))")
    (package / "__init__.py").touch()
    note = tmp_path / "note"
    # A shell in the place of torchrun: it hears the signal when the command in front of it has ended.
    torchrun = f"trap 'echo asked >{tmp_path}/asked' TERM; {sys.executable} {WORKER} {status}; echo $?"
    parent = subprocess.run(
        ["bash", "-c", torchrun],
        env=clean(PYTHONPATH=str(tmp_path), LAUNCH_REFUSED=str(note)), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert parent.stdout == f"{status}\n", parent.stderr
    assert (tmp_path / "asked").exists() == note.exists() == (status == 2)


@pytest.mark.slow
def test_a_refused_run_is_not_started_again() -> None:
    process = start([str(LAUNCHER), "--processes", "1", "--restarts", "3", "wheels=4"])
    assert end(process, 120) == 2
    assert process.errors.count("error: unknown key 'wheels'") == 1
    assert process.errors.endswith("the run was refused, for the reason above; it is not started again\n")
