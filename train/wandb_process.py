"""The process that speaks to wandb: options as its argument, a JSON object per line on standard input.

It ends when its input ends. It says nothing on standard output unless sending is over too early, and then why.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn

PATIENCE = 120.0
"""Seconds after the end of the input, when nobody may be left to end this process, until it ends itself."""


def main(options: dict[str, Any], told: int) -> None:
    """Send until the input ends.

    Args:
        told: descriptor for the one sentence; wandb writes to standard output as it likes.
    """
    try:
        import wandb

        quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        session = wandb.init(**options, settings=quiet)
        for line in sys.stdin:
            metrics = json.loads(line)
            session.log(metrics, step=metrics["step"])
        timer = threading.Timer(PATIENCE, _end)
        timer.daemon = True
        timer.start()
        session.finish()
    except Exception as error:  # whatever a logging service raises
        os.write(told, f"{type(error).__name__}: {' '.join(str(error).split())}\n".encode())
        _end()


def _end() -> NoReturn:
    """At once, with everything that wandb has started; its exit handlers may wait for a server that is gone."""
    os.killpg(0, signal.SIGKILL)
    sys.exit(1)


if __name__ == "__main__":
    said = os.dup(1)
    os.dup2(2, 1)
    main(json.loads(sys.argv[1]), said)
