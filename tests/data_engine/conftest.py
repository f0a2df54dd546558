from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from data_engine.assets import asset_path
from data_engine.dataset import Dataset
from data_engine.degrade_options import DegradeOptions
from data_engine.errors import ConfigError
from data_engine.kinds import KINDS
from data_engine.run import Outcome, Plan, close_renderer, make_dataset
from data_engine.shards import Skipped
from data_engine.skips import SKIPPED_NAME

SELF_CONTAINED = sorted(set(KINDS) - {"pdf", "text_page"})
"""Kinds that need no file of the user and fit on a small picture as they are."""
NO_ASSETS = "ECharts and the Chinese font are not fetched: python -m data_engine assets=fetch"


def assets_are_there() -> bool:
    try:
        asset_path("echarts.min.js")
        asset_path("NotoSansSC-Regular.ttf")
        asset_path("NotoSansSC-Bold.ttf")
    except ConfigError:
        return False
    return True


needs_assets = pytest.mark.skipif(not assets_are_there(), reason=NO_ASSETS)


def quiet(done: int, samples: int, skipped: Mapping[str, int]) -> None:
    """A progress that says nothing."""


def plan_of(kind: str, directory: Path, **values: Any) -> Plan:
    """A small plan; what is no field of Plan is an option of the kind."""
    fields: dict[str, Any] = {"samples": 12, "seed": 7, "shard_samples": 5, "degrade": DegradeOptions()}
    plan_values = {name: values.pop(name, default) for name, default in fields.items()}
    return Plan(kind=kind, options=KINDS[kind].options(**values), directory=directory, **plan_values)


def make(kind: str, directory: Path, workers: int = 1, **values: Any) -> Outcome:
    try:
        return make_dataset(plan_of(kind, directory, **values), workers, quiet)
    finally:
        close_renderer()


def skipped_of(directory: Path) -> list[Skipped]:
    """What the file beside the shards says was left out."""
    lines = (directory / SKIPPED_NAME).read_text("utf-8").splitlines()
    return [Skipped(**json.loads(line)) for line in lines]


Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def data_engine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m data_engine` with some arguments, in this process: starting another one takes seconds."""

    def command(*arguments: str) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["data_engine", *arguments])
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_module("data_engine", run_name="__main__")
        finally:
            close_renderer()
        printed = capsys.readouterr()
        return CompletedProcess(arguments, int(ended.value.code or 0), printed.out, printed.err)

    return command


@pytest.fixture(scope="session")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve cards in three shards. Tests that damage something copy the directory."""
    directory = tmp_path_factory.mktemp("data") / "cards"
    make("card", directory)
    return Dataset.open(directory)


@pytest.fixture
def damaged(cards: Dataset, tmp_path: Path) -> Callable[[], Path]:
    """A copy of the cards that a test may damage."""

    def copy() -> Path:
        return Path(shutil.copytree(cards.directory, tmp_path / "copy"))

    return copy
