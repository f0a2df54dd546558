from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import phases
import pytest

LAUNCH = Path(phases.__file__).parent


def run(directory: Path, name: str, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(LAUNCH / "phases.py"),
        "run",
        str(directory),
        name,
        f"Part {name}",
        *options,
    ]
    return subprocess.run([*command, "--", sys.executable, "-c", code], capture_output=True, text=True)


def record(directory: Path, name: str) -> dict:
    return json.loads((directory / f"{name}.json").read_text())


def test_a_finished_part_is_reused(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'count')!r}, 'a').write('x')"
    directory = tmp_path / "run" / "phases"
    assert run(directory, "a", code).returncode == 0
    again = run(directory, "a", code)
    assert (again.returncode, (tmp_path / "count").read_text()) == (0, "x")
    assert "done before" in again.stderr and "reused" in again.stderr


def test_an_interrupted_part_goes_on_and_adds_up(tmp_path: Path) -> None:
    left_over = tmp_path / "made"
    code = (
        "import pathlib, sys, time; time.sleep(0.1)\n"
        f"made = pathlib.Path({str(left_over)!r}); made.mkdir()\n"
        f"flag = pathlib.Path({str(tmp_path / 'flag')!r})\n"
        "first = not flag.exists(); flag.touch(); sys.exit(7 if first else 0)"
    )
    directory = tmp_path / "phases"
    assert run(directory, "a", code, "--fresh", str(left_over)).returncode == 7
    first = record(directory, "a")
    second_run = run(directory, "a", code, "--fresh", str(left_over))
    assert second_run.returncode == 0, second_run.stderr
    assert "goes on where it was interrupted" in second_run.stderr
    second = record(directory, "a")
    assert (first["status"], second["status"]) == (7, 0)
    assert second["seconds"] >= first["seconds"] + 0.1


def test_another_command_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert run(tmp_path / "r" / "phases", "a", "pass").returncode == 0
    other = run(tmp_path / "r" / "phases", "a", "1")
    assert other.returncode == 2
    assert other.stderr == (
        f"error: {tmp_path / 'r'} was begun with other settings (part 'a' differs); "
        "name another directory, or delete it.\n"
    )


def test_parts_add_up_in_the_order_they_ended(tmp_path: Path) -> None:
    for name, seconds, peak in (("b", 2.5, 1.25), ("a", 1.0, None)):
        phases.write_json(tmp_path / "phases" / f"{name}.json", {"seconds": seconds, "peak_memory_gib": peak})
    total = phases.total(tmp_path / "phases")
    assert (total["seconds"], total["peak_memory_gib"]) == (3.5, 1.25)
    assert list(total["phases"]) == ["b", "a"]
    assert phases.total(tmp_path / "nothing") == {"seconds": 0, "peak_memory_gib": None, "phases": {}}


@pytest.mark.parametrize(
    ("earlier", "peak", "expected"),
    [(None, None, None), (None, 2**30, 1.0), (2.0, 2**30, 2.0), (0.5, None, 0.5), (0.5, 2**30, 1.0)],
)
def test_the_highest_peak_of_all_tries_counts(
    earlier: float | None, peak: int | None, expected: float | None
) -> None:
    before = (
        None
        if earlier is None
        else {"command": ["c"], "status": 1, "seconds": 1.0, "peak_memory_gib": earlier}
    )
    made = phases.record_of(before, ["c"], 0, 2.0, peak)
    assert made["peak_memory_gib"] == expected
    assert made["seconds"] == (2.0 if earlier is None else 3.0)
