"""The lock of a run directory: on one host, after a death, and where only signs of life tell."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_engine.errors import ConfigError
from train import run_lock
from train.run_lock import RunLock


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_lock, "WATCHED", 1.2)
    return tmp_path / ".lock"


def lock(path: Path) -> RunLock:
    return RunLock(path, path.parent / "control")


def left_behind(path: Path, **owner: object) -> None:
    path.write_text(json.dumps({"pid": 1, "started": "2026-01-01 00:00:00", **owner}))


def test_only_one_has_it_and_the_refusal_names_the_owner(path: Path) -> None:
    first = lock(path)
    first.take()
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on {socket.gethostname()}, since 20"):
        lock(path).take()
    assert json.loads(path.read_text())["pid"] == os.getpid(), "the refused one changed nothing"
    first.release()
    lock(path).take()


def test_a_dead_owner_on_this_host_is_replaced_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.run_lock.WATCHED", 60.0)
    script = f"import os, sys; sys.path[:0] = {sys.path!r}\n"
    script += "from pathlib import Path; from train.run_lock import RunLock\n"
    script += f"RunLock(Path({str(path)!r}), Path('control')).take(); os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    assert json.loads(path.read_text())["pid"] != os.getpid()
    started = time.monotonic()
    lock(path).take()
    assert time.monotonic() - started < 30, "nobody watches for signs of life"
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_an_owner_on_another_host_is_replaced_when_it_gives_no_sign_of_life(path: Path) -> None:
    left_behind(path, host="node-that-is-gone")
    lock(path).take()
    assert json.loads(path.read_text())["host"] == socket.gethostname()


def test_an_owner_on_another_host_that_lives_is_not_replaced(path: Path) -> None:
    left_behind(path, host="node7", pid=123)
    sign = threading.Timer(0.3, lock(path).touch)
    sign.start()
    with pytest.raises(ConfigError, match="process 123 on node7"):
        lock(path).take()
    sign.join()
    assert json.loads(path.read_text())["host"] == "node7"


def test_without_locks_of_the_file_system_the_process_tells(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    left_behind(path, host=socket.gethostname(), pid=os.getppid())
    with pytest.raises(ConfigError, match="another run is at work"):
        lock(path).take()
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    left_behind(path, host=socket.gethostname(), pid=ended.pid)
    lock(path).take()
