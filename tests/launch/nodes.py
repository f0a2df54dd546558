"""Starting launch scripts in tests: an environment without an outer launcher, output collected, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "launch" / "torchrun"
OF_LAUNCHERS = ("PET_", "SLURM_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "OMP_", "DOCTOR_", "PYTHON")


class Started(subprocess.Popen):
    """A command in a session of its own; `output` and `errors` are there after `end`."""

    output = ""
    errors = ""


def clean(**more: str) -> dict[str, str]:
    """The environment without anything that an outer launcher has set, and without GPUs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OF_LAUNCHERS)}
    return kept | {"CUDA_VISIBLE_DEVICES": ""} | more


def start(command: Sequence[str], **more: str) -> Started:
    return Started(
        list(command), env=clean(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def end(process: Started, timeout: float) -> int:
    """Wait for the end; the exit status. Everything it has started ends with it."""
    try:
        process.output, process.errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.output, process.errors = process.communicate()
        raise AssertionError(f"no end within {timeout} s\n{process.output}\n{process.errors}") from None
    return process.returncode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
