"""The log of a run: no step twice after a resume, and wandb that can break without breaking anything."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from train.config import Logging, TrainConfig
from train.metrics import RunLog
from train.run_directory import RunDirectory


def log_of(path: Path, first_step: int, wandb: str = "disabled") -> RunLog:
    return RunLog(TrainConfig(logging=Logging(wandb=wandb)), RunDirectory(path), first_step)


def test_a_resumed_run_logs_no_step_twice(tmp_path: Path) -> None:
    log = log_of(tmp_path, 0)
    for step in (1, 2, 3, 4):
        log.step({"step": step, "loss": float(step)})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    log = log_of(tmp_path, 2)
    log.step({"step": 3, "loss": 30.0})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert "step 3  loss 30.0000" in (tmp_path / "log.txt").read_text()


def test_wandb_that_fails_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("wandb")

    def init(**_: object) -> None:
        raise ConnectionError("no route to host")

    broken.init = init  # type: ignore[attr-defined]
    broken.Settings = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", broken)
    log = log_of(tmp_path, 0, wandb="online")
    log.step({"step": 1, "loss": 1.0})
    log.close()
    text = (tmp_path / "log.txt").read_text()
    assert "wandb is switched off for this run: ConnectionError: no route to host" in text
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_wandb_that_hangs_does_not_slow_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = ModuleType("wandb")
    slow.init = lambda **_: time.sleep(3600)  # type: ignore[attr-defined]
    slow.Settings = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", slow)
    monkeypatch.setattr("train.tracking.PATIENCE", 0.1)
    started = time.monotonic()
    log = log_of(tmp_path, 0, wandb="online")
    for step in range(100):
        log.step({"step": step, "loss": 1.0})
    log.close()
    assert time.monotonic() - started < 10
