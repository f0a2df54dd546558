"""The log of a run: no step twice after a resume, and wandb that can break without breaking anything."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.train.processes import REPOSITORY, run
from train.config import Logging, TrainConfig
from train.data.kinds import KINDS, TEXT, kind_names, kind_number
from train.meter import mean_losses
from train.metrics import RunLog
from train.run_directory import RunDirectory


def log_of(path: Path, first_step: int, wandb: str = "disabled", plots: bool = False) -> RunLog:
    return RunLog(TrainConfig(logging=Logging(wandb=wandb, plots=plots)), RunDirectory(path), first_step)


def test_a_resumed_run_logs_no_step_twice(tmp_path: Path) -> None:
    log = log_of(tmp_path, 0)
    for step in (1, 2, 3, 4):
        log.step({"step": step, "loss": float(step)})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    log = log_of(tmp_path, 2)
    log.step({"step": 3, "loss": 30.0, "skipped_steps": [1, 2, 3]})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert "step 3  loss 30.0000  left out 1-3\n" in (tmp_path / "log.txt").read_text()


def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    """A module called wandb for the process that sends."""
    room = tmp_path / "modules"
    room.mkdir()
    (room / "wandb.py").write_text(f"import time\nSettings = dict\ndef init(**options):\n    {init}\n")
    monkeypatch.setenv("PYTHONPATH", f"{room}{os.pathsep}{REPOSITORY}")


def test_wandb_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_wandb(tmp_path, monkeypatch, "raise ConnectionError('no route to host')")
    log = log_of(tmp_path, 0, wandb="online")
    for step in range(1, 4):
        log.step({"step": step, "loss": 1.0})
    log.close()
    text = (tmp_path / "log.txt").read_text()
    assert "wandb is switched off for this run: ConnectionError: no route to host" in text
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_wandb_that_hangs_does_not_slow_the_run_and_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_wandb(tmp_path, monkeypatch, "time.sleep(3600)")
    monkeypatch.setattr("train.tracking.PATIENCE", 0.1)
    log = log_of(tmp_path, 0, wandb="online")
    for step in range(100):
        log.step({"step": step, "loss": 1.0})
    log.close()
    assert log._tracker._process.returncode == -signal.SIGKILL  # type: ignore[attr-defined]


UNREACHABLE = """
import json, sys, time
from pathlib import Path
import train.tracking
train.tracking.PATIENCE = 2.0
from tests.train.test_metrics import log_of
log = log_of(Path(sys.argv[1]), 0, wandb="online")
started = time.monotonic()
for step in range(1, 51):
    log.step({"step": step, "loss": 1.0})
print("stepped", time.monotonic() - started)
log.close()
print("closed", time.monotonic() - started)
"""


@pytest.mark.slow
def test_a_wandb_server_that_cannot_be_reached_costs_nothing_but_patience_at_the_end(tmp_path: Path) -> None:
    result = run(
        [sys.executable, "-c", UNREACHABLE, str(tmp_path)], 100, WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY="0" * 40,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    times = dict(
        line.split() for line in result.stdout.splitlines() if line.startswith(("stepped", "closed"))
    )
    assert float(times["stepped"]) < 10 and float(times["closed"]) < 30, "the patience is 2 s"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 50


def test_losses_by_kind_are_means_over_labelled_tokens() -> None:
    names = kind_names(["page", "chart"], ["base", "tiny"])
    sums = torch.zeros(2, KINDS, dtype=torch.float64)
    for task, mode, loss, count in (
        ("page", "base", 10.0, 5), ("page", "tiny", 2.0, 1), ("chart", "tiny", 9.0, 3), ("page", TEXT, 4.0, 4),
    ):  # fmt: skip
        sums[0, kind_number(task, mode)] += loss
        sums[1, kind_number(task, mode)] += count
    assert mean_losses(sums, names) == {
        "task_loss": {"chart": 3.0, "page": 1.6},
        "task_tokens": {"chart": 3, "page": 10},
        "mode_loss": {"base": 2.0, "text": 1.0, "tiny": 2.75},
    }


def test_kinds_that_share_a_number_are_shown_together() -> None:
    tasks = [f"task{number}" for number in range(9000)]
    names = kind_names(tasks, ["base"])
    assert len(names) < 2 * len(tasks), "so many cannot all differ"
    shared = [name for name in names.values() if "|" in name[0]]
    assert shared and all(name[0].count("|") == name[1].count("|") for name in shared)


def test_plots_are_drawn_and_a_failure_to_draw_is_only_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = {"gradient_norm": 2.2, "part_gradient_norms": {"model.layers": 1.0, "lm_head": 2.0}}
    row = {"loss": 2.0, "task_loss": {"page": 2.5}, **norms}
    log = log_of(tmp_path, 0, plots=True)
    log.step({"step": 1, "skipped_steps": [1]})
    for step in (2, 3):
        log.step({"step": step, **row})
    log.close()
    svg = (tmp_path / "report/training.svg").read_text()
    assert "<svg" in svg and svg.count("<path") > 10

    def broken(*_: object) -> None:
        raise MemoryError("no picture")

    monkeypatch.setattr("train.metrics.draw_training", broken)
    log_of(tmp_path, 3, plots=True).close()
    assert "no plots: MemoryError: no picture" in (tmp_path / "log.txt").read_text()
