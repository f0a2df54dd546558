"""One process of a run as launch/torchrun starts it: `python -m train`, and the end of everything when it is refused.

A run that was refused (exit status 2, after one sentence: an unknown key, no data, a full disk) would be refused again.
Torchrun knows failures only: it would start all processes again as often as it may, and end with status 1. So whoever
is refused notes it in the file $LAUNCH_REFUSED and asks torchrun, its parent, to leave; launch/torchrun ends with 2.
"""

from __future__ import annotations

import os
import runpy
import signal
from pathlib import Path

REFUSED = 2


def main() -> None:
    torchrun = os.getppid()
    try:
        runpy.run_module("train", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        note = os.environ.get("LAUNCH_REFUSED")
        if ended.code == REFUSED and note:
            Path(note).write_text("refused\n", encoding="utf-8")
            os.kill(torchrun, signal.SIGTERM)
        raise


if __name__ == "__main__":
    main()
