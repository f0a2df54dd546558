"""The whole path in miniature, typed as a newcomer types it: interrupted, taken up again, and typed once more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [str(ROOT / "launch" / "quickstart"), "--rehearsal"]

needs_setup = pytest.mark.skipif(
    subprocess.run([str(ROOT / "launch" / "setup"), "--check"]).returncode != 0,
    reason=".venv was not made by launch/setup, or is out of date; type launch/test",
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_setup]


def quickstart(run: Path, elsewhere: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, str(run)], cwd=elsewhere, capture_output=True, text=True)


def test_the_rehearsal_runs_resumes_and_reuses(tmp_path: Path) -> None:
    run = tmp_path / "a run with blanks"
    process = subprocess.Popen(
        [*COMMAND, str(run)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("step 1 "):
            os.killpg(process.pid, signal.SIGINT)
            break
    said.append(process.stdout.read())
    assert process.wait(timeout=60) == 130, "".join(said)
    assert "Interrupted. Type the same command again to go on." in said[-1]
    assert "Traceback" not in "".join(said)

    finished = quickstart(run, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert (
        "Stage 1: DeepEncoder with a compact language model: goes on where it was interrupted"
        in finished.stderr
    )
    lines = finished.stdout.strip().splitlines()
    assert lines[-1] == f"Report: {run}/report/index.html"
    assert any(line.startswith("Took ") for line in lines)

    summary = json.loads((run / "report" / "summary.json").read_text())
    kinds = {"card", "page", "chart", "chemistry", "geometry"}
    assert set(summary["datasets"]) == kinds
    assert {f"train-{kind}" for kind in kinds} | {"stage1", "stage2", "evaluation"} <= set(summary["phases"])
    assert summary["checkpoint"] == str(run / "checkpoint")
    assert summary["heldout"] == str(run / "data" / "heldout")
    assert summary["seconds"] > 0 and summary["peak_memory_gib"] > 0
    page = (run / "report" / "index.html").read_text()
    assert page.count("<img ") == 20 and "<svg" in page and "vision tokenizer" in page

    before = {path: path.stat().st_mtime_ns for path in (run / "data").rglob("*")}
    again = quickstart(run, tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == len(summary["phases"])
    assert {path: path.stat().st_mtime_ns for path in (run / "data").rglob("*")} == before
    assert json.loads((run / "report" / "summary.json").read_text()) == summary


def test_a_run_with_other_settings_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "run" / "phases" / "train-card.json"
    record.parent.mkdir(parents=True)
    record.write_text(
        json.dumps({"command": ["another"], "status": 0, "seconds": 1.0, "peak_memory_gib": 0.1})
    )
    result = quickstart(tmp_path / "run", tmp_path)
    assert result.returncode == 2
    assert "was begun with other settings (part 'train-card' differs)" in result.stderr
