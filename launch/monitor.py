"""Runs one command, and finds how long it took and how much memory all its processes held together.

Memory is sampled over the process tree through /proc: the proportional set size (PSS), which counts a page that
several processes share only once; where a process does not let its PSS be read, its resident set size. Reading
PSS is dear (20 ms for a process with torch), so every half second only resident sizes are summed, and PSS is read
when that sum reaches a new height, and otherwise as often as 2 % of a core allows. Where there is no /proc
(macOS), the peak is None.

Only the standard library is used, so the monitor itself stays small.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

INTERVAL = 0.5  # seconds between samples
LARGEST_SHARE = 0.02  # of one core, for reading PSS without need
GROWTH = 1.01  # a resident sum above this times the highest so far is a new height
PROC = Path("/proc")


def children_of(root: int, proc: Path = PROC) -> list[int]:
    """`root` and all its descendants, from the parent that every process names in /proc/PID/stat."""
    parents: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # ended meanwhile
        # The name stands in parentheses and may itself hold blanks and parentheses.
        parent = int(stat.rpartition(")")[2].split()[1])
        parents.setdefault(parent, []).append(int(entry.name))
    tree, front = [], [root]
    while front:
        process = front.pop()
        tree.append(process)
        front.extend(parents.get(process, []))
    return tree


def resident(process: int, proc: Path = PROC) -> int:
    """Bytes of one process's resident set, shared pages included; 0 when it has ended."""
    try:
        return int((proc / str(process) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def proportional(process: int, proc: Path = PROC) -> int:
    """Bytes of one process, shared pages by share (PSS); its resident set where PSS cannot be read."""
    try:
        for line in (proc / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no right to read it, an old kernel, or it has ended
    return resident(process, proc)


class Peak:
    """The highest memory of a process tree so far."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.bytes = 0
        self._highest_resident = 0
        self._next = 0.0  # when PSS may be read again without need

    def sample(self) -> None:
        """Looks at the tree once."""
        processes = children_of(self.root)
        total = sum(map(resident, processes))
        now = time.monotonic()
        if total > GROWTH * self._highest_resident or now >= self._next:
            self._highest_resident = max(total, self._highest_resident)
            self.bytes = max(self.bytes, sum(map(proportional, processes)))
            self._next = time.monotonic() + (time.monotonic() - now) / LARGEST_SHARE


def run(command: list[str], stop_file: Path | None = None) -> tuple[int, float, int | None]:
    """Runs a command to its end: (exit status, seconds, peak bytes or None where /proc is missing).

    Ctrl-C reaches the command from the terminal itself, and the monitor waits until it has put its things in
    order. With `stop_file` the command is out of the terminal's reach instead, and Ctrl-C makes that file, which
    asks the command to stop at the next good moment; a second Ctrl-C interrupts it at once. SIGTERM and SIGHUP are
    passed on. A command that ends after Ctrl-C counts as interrupted (130) unless it ended well by itself; so does one
    that somebody else asked to stop: it leaves a file `stopped` beside `stop_file`.
    """
    started = time.monotonic()
    child = subprocess.Popen(command, process_group=None if stop_file is None else 0)
    interrupts = 0

    def interrupt(number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if stop_file is not None and interrupts == 1:
            sys.stderr.write("\nStopping after this step; Ctrl-C again leaves at once.\n")
        elif stop_file is not None:
            os.killpg(child.pid, number)

    signal.signal(signal.SIGINT, interrupt)
    for passed_on in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(passed_on, lambda number, _: child.send_signal(number))
    peak = Peak(os.getpid()) if (PROC / "self" / "stat").exists() else None
    while True:
        if peak is not None:
            peak.sample()
        # Asked again and again: a command that has just begun clears what an earlier one was asked for.
        if interrupts and stop_file is not None and stop_file.parent.is_dir():
            stop_file.touch()
        try:
            status = child.wait(timeout=INTERVAL)
        except subprocess.TimeoutExpired:
            continue
        seconds = time.monotonic() - started
        stopped = status == 0 and stop_file is not None and stop_file.with_name("stopped").exists()
        if stopped or (interrupts and (status != 0 or stop_file is not None)):
            status = 130
        return (128 - status if status < 0 else status), seconds, peak.bytes if peak else None
