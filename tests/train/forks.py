"""A process that has imported the project and runs `python -m train`, with faults or without, in copies of itself: the
seconds that importing takes are paid once for all runs of a test.

    python -m tests.train.forks     a line of its input is {"faults", "arguments", "output"}, the answer the status
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.train.processes import REPOSITORY, environment


class Forks:
    """The process, between `with` and its end."""

    def __init__(self, room: Path) -> None:
        self._room = room
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.forks"], cwd=REPOSITORY, env=environment(), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def train(self, arguments: Sequence[str], faults: Sequence[dict[str, Any]] = ()) -> tuple[int, str]:
        """Exit status of one run (negative: the signal that ended it), and what it printed."""
        self._count += 1
        output = self._room / f"output_{self._count}"
        order = {"faults": list(faults), "arguments": list(arguments), "output": str(output)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        answer = self._process.stdout.readline()
        return int(answer), output.read_text(encoding="utf-8")


def _run(order: dict[str, Any]) -> int:
    """The status of a copy of this process that runs the order."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        importlib.import_module("tests.train.faulty").main(order["faults"], order["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for module in ("tests.train.faulty", "train.prepare", "train.actions", "train.loop"):
        importlib.import_module(module)
    for line in sys.stdin:
        sys.stdout.write(f"{_run(json.loads(line))}\n")
        sys.stdout.flush()
