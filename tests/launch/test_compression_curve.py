"""The compression curve's command, every part of it with next to no data and steps."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.launch.test_quickstart import ROOT, needs_setup

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.timeout(900), needs_setup]


def test_the_rehearsal_reads_every_page_length_in_every_mode(tmp_path: Path) -> None:
    run = tmp_path / "curve"
    command = [str(ROOT / "launch" / "compression_curve"), "--rehearsal", str(run)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    scores = json.loads((run / "report" / "scores.json").read_text())
    found = {
        (read["text_tokens"], read["vision_tokens"]): scores["datasets"][name]["samples"]
        for name, read in scores["read_in_modes"].items()
    }
    assert found == {(length, spent): 4 for length in (4, 8, 12, 16, 24, 32, 40) for spent in (4, 9)}
    assert {path.stem for path in (run / "report" / "plots").iterdir()} >= {"compression", "forgetting"}
    assert "Precision against compression" in (run / "report" / "tables.md").read_text()
