"""What a process that makes shards starts from, and what it closes in the end: V8 bears neither fork nor exit."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_engine.degrade_options import DegradeOptions
from data_engine.executors import make_here
from data_engine.plan import close_renderer
from tests.data_engine.conftest import needs_assets, plan_of


@dataclass(frozen=True)
class TellsItsProcess:
    """A job whose shards are what kind of process made them."""

    def make_shard(self, number: int) -> Any:
        return type(multiprocessing.current_process()).__name__


def test_local_workers_are_spawned_not_forked() -> None:
    """A fork of a process that keeps V8's threads may hang, now and then, in the child."""
    job: Any = TellsItsProcess()
    assert dict(make_here(job, [0, 1], workers=2)) == dict.fromkeys([0, 1], "SpawnProcess")


@needs_assets
@pytest.mark.parametrize("degraded", [False, True])
def test_closing_the_renderer_closes_v8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degraded: bool
) -> None:
    """Left to the interpreter's exit, V8 hangs in one run out of twenty."""
    from data_engine.render import echarts_engine

    alive: list[Any] = []

    class Watched(echarts_engine.MiniRacer):
        def __init__(self) -> None:
            super().__init__()
            alive.append(self)

        def close(self) -> None:
            alive.remove(self)
            super().close()

    monkeypatch.setattr(echarts_engine, "MiniRacer", Watched)
    close_renderer()
    degrade = DegradeOptions(probability=0.5 if degraded else 0.0)
    plan = plan_of("chart", tmp_path, engine="echarts", samples=1, size=256, degrade=degrade)
    plan.make_shard(0)
    assert len(alive) == 1
    close_renderer()
    assert alive == []
