"""Where weights start from when there are several sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data_engine.errors import ConfigError
from train.initialise import SeveralSources, resolve, weight_source

WANTED = {"encoder": (2,), "projector": (3,), "decoder": (4,), "head": (5,)}


def directory(path: Path, **tensors: Tensor) -> Path:
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


def read(source: SeveralSources, names: list[str]) -> dict[str, list[float]]:
    pairs: Iterator[tuple[str, Tensor]] = source.read(names)
    return {name: tensor.tolist() for name, tensor in pairs}


def test_each_tensor_comes_from_the_first_source_in_which_it_fits(tmp_path: Path) -> None:
    first = directory(tmp_path / "a,b", encoder=torch.ones(2), projector=torch.ones(7), rest=torch.ones(1))
    second = directory(
        tmp_path / "second",
        encoder=torch.zeros(2),
        projector=torch.zeros(3),
        decoder=torch.zeros(4),
        head=torch.zeros(9),
    )
    assert resolve(str(first), print) == [first], "a directory with a comma in its name is one source"
    source = weight_source([first, second], WANTED)
    assert isinstance(source, SeveralSources)
    assert source.shapes == {"encoder": (2,), "projector": (3,), "rest": (1,), "decoder": (4,), "head": (9,)}
    fitting = ["encoder", "projector", "decoder"]
    assert read(source, fitting) == {"encoder": [1, 1], "projector": [0, 0, 0], "decoder": [0, 0, 0, 0]}


def test_every_source_is_checked(tmp_path: Path) -> None:
    there, missing = directory(tmp_path / "there", encoder=torch.ones(2)), tmp_path / "missing"
    assert resolve(f"{there},{there}", print) == [there, there]
    with pytest.raises(ConfigError, match=f"init={missing} is not a directory"):
        resolve(f"{there},{missing}", print)
