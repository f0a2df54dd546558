"""The parts of a long command: each is run once, measured, recorded, and reused when the command is typed again.

    python launch/phases.py run DIRECTORY NAME TITLE [--fresh PATH] [--stop FILE] -- COMMAND ARGUMENT...
    python launch/phases.py total DIRECTORY OUT.json

`run` leaves DIRECTORY/NAME.json: the command, its exit status, seconds and peak memory. A part that is finished is
not run again; one that was interrupted is, and its record adds up what all its runs cost. --fresh names what an
interrupted run may have left and the command would refuse to find; it is removed before the next run. --stop names
a file that asks the command to stop in good order, for Ctrl-C (see monitor.run). A record of another command means
that the directory belongs to other settings, which is refused.

`total` adds the parts up: seconds, peak_memory_gib (the highest of all parts), and the two of every part.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import monitor

GIB = 1024**3
REFUSED = 2


def run_phase(
    directory: Path, name: str, title: str, command: list[str], fresh: Path | None, stop_file: Path | None
) -> int:
    """Runs one part unless it is finished; returns its exit status, 2 when another command made the record."""
    path = directory / f"{name}.json"
    earlier = read_record(path)
    if earlier is not None and earlier["command"] != command:
        say(
            f"error: {directory.parent} was begun with other settings (part '{name}' differs); "
            "name another directory, or delete it."
        )
        return REFUSED
    if earlier is not None and earlier["status"] == 0:
        say(f"{title}: done before in {earlier['seconds']:.0f} s, reused.")
        return 0
    say(f"{title}" if earlier is None else f"{title}: goes on where it was interrupted")
    if fresh is not None and fresh.exists():
        shutil.rmtree(fresh)
    status, seconds, peak = monitor.run(command, stop_file)
    write_json(path, record_of(earlier, command, status, seconds, peak))
    return status


def record_of(
    earlier: dict[str, Any] | None, command: list[str], status: int, seconds: float, peak: int | None
) -> dict[str, Any]:
    """The record of a part, the cost of its own earlier, unfinished runs included."""
    peak_gib = None if peak is None else peak / GIB
    if earlier is not None:
        seconds += earlier["seconds"]
        known = [value for value in (earlier["peak_memory_gib"], peak_gib) if value is not None]
        peak_gib = max(known, default=None)
    return {
        "command": command,
        "status": status,
        "seconds": round(seconds, 2),
        "peak_memory_gib": None if peak_gib is None else round(peak_gib, 3),
    }


def total(directory: Path) -> dict[str, Any]:
    """Sum of seconds and highest peak of all parts, and both of every part, in the order they ended."""
    records = {path.stem: read_record(path) for path in sorted(directory.glob("*.json"), key=_ended)}
    parts = {
        name: {"seconds": record["seconds"], "peak_memory_gib": record["peak_memory_gib"]}
        for name, record in records.items()
        if record is not None
    }
    peaks = [part["peak_memory_gib"] for part in parts.values() if part["peak_memory_gib"] is not None]
    return {
        "seconds": round(sum(part["seconds"] for part in parts.values()), 1),
        "peak_memory_gib": max(peaks, default=None),
        "phases": parts,
    }


def _ended(path: Path) -> float:
    return path.stat().st_mtime


def read_record(path: Path) -> dict[str, Any] | None:
    """An earlier record; None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON under a temporary name and renames it, so that a record is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def say(line: str) -> None:
    """One line for the person in front of it; on standard error, in order with what the parts say."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["run"] and "--" in arguments:
        cut = arguments.index("--")
        directory, name, title, *options = arguments[1:cut]
        paths = {flag: Path(value) for flag, value in zip(options[::2], options[1::2], strict=True)}
        command = arguments[cut + 1 :]
        return run_phase(Path(directory), name, title, command, paths.get("--fresh"), paths.get("--stop"))
    if arguments[:1] == ["total"] and len(arguments) == 3:
        write_json(Path(arguments[2]), total(Path(arguments[1])))
        return 0
    say((__doc__ or "").strip())
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
