"""Starting the project's own commands in tests: several processes, one thread each, a free port, a hard limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: CPU, one thread, and nothing of an outer launcher."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    paths = [str(REPOSITORY), *filter(None, [kept.get("PYTHONPATH")])]
    return (
        kept
        | {
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        | more
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(processes: int, target: Sequence[str], timeout: float = 280.0) -> subprocess.CompletedProcess[str]:
    """Run `target` (a script, or -m module, with arguments) in so many processes; with one, without torchrun."""
    command = [sys.executable, *target]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes),
            "--master-addr", "127.0.0.1", "--master-port", str(free_port()), *target,
        ]  # fmt: skip
    return run(command, timeout)


def run(command: Sequence[str], timeout: float, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; everything that it started ends with it."""
    with subprocess.Popen(
        list(command), cwd=REPOSITORY, env=environment(**more), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, errors = process.communicate()
            raise AssertionError(f"no end within {timeout} s\n{output[-2000:]}\n{errors[-4000:]}") from None
    return subprocess.CompletedProcess(list(command), process.returncode, output, errors)


def train(processes: int, *arguments: str, timeout: float = 280.0) -> subprocess.CompletedProcess[str]:
    """`python -m train`, under torchrun when there are several processes."""
    return launch(processes, ["-m", "train", *arguments], timeout)


def succeeded(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-6000:]}"
    return result
