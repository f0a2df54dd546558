"""A small dataset and its tokenizer, made once by the project's own commands."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.train.processes import run, succeeded


@dataclass(frozen=True)
class Material:
    data: Path
    tokenizer: Path

    @property
    def arguments(self) -> list[str]:
        return [f"data={self.data}", f"tokenizer={self.tokenizer}"]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("material")
    made = Material(root / "data", root / "tokenizer")
    card = ["kind=card", "samples=160", "seed=1", "workers=1", f"out={made.data / 'card'}"]
    succeeded(run([sys.executable, "-m", "data_engine", *card], 250))
    tokenizer = ["tokenizer=true", f"data={made.data}", f"out={made.tokenizer}", "vocab_size=300"]
    succeeded(run([sys.executable, "-m", "train", *tokenizer], 250))
    return made
