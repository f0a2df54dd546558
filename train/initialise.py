"""Weights to start from: another run (stage 1's encoder moves into stage 2), a checkpoint, or a released model.

Tensors are matched by checkpoint name and shape. What does not exist there, or has another shape, keeps its
random start; the report says how much of each there is, so that a wrong source cannot go unnoticed. Several sources,
such as a run of stage 1 and a decoder's weights, are asked in order: the first that has a fitting tensor gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from data_engine.errors import ConfigError
from model.convert import released_tensors
from train.checkpoint import Checkpoint, DamagedCheckpointError, find_checkpoint
from train.lora import plain_names, plain_weights
from train.run_directory import RunDirectory

Shapes = Mapping[str, tuple[int, ...]]


if TYPE_CHECKING:
    from train.deepspeed_engine import TrainingEngine


class WeightSource(Protocol):
    """Tensors under our checkpoint names."""

    shapes: Shapes

    def read(self, names: list[str]) -> Iterator[tuple[str, Tensor]]: ...


class CheckpointSource:
    """Weights of one of our checkpoints, adapters added to them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        tensors = checkpoint.manifest["tensors"]
        self.shapes: Shapes = {name: tuple(tensors[name]["shape"]) for name in plain_names(checkpoint)}

    def read(self, names: list[str]) -> Iterator[tuple[str, Tensor]]:
        yield from plain_weights(self._checkpoint, names)


class ReleasedSource:
    """A directory of safetensors in the released layout, whole or a part of it; experts are stacked on the way."""

    def __init__(self, directory: Path, wanted: Shapes) -> None:
        self._files: dict[str, Path] = {}
        found: dict[str, tuple[int, ...]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as handle:
                    for name in handle.keys():  # noqa: SIM118 - safe_open is no mapping
                        self._files[name] = path
                        found[name] = tuple(handle.get_slice(name).get_shape())
            except SafetensorError as error:
                raise ConfigError(f"init: '{path}' is damaged or not a safetensors file: {error}.") from error
        shapes: dict[str, tuple[int, ...]] = {}
        used: set[str] = set()
        for name, shape in wanted.items():
            parts = {part: tuple(view.shape) for part, view in _parts(name, shape, "meta")}
            if all(found.get(part) == size for part, size in parts.items()):
                shapes[name] = shape
                used |= parts.keys()
        shapes |= {name: size for name, size in found.items() if name not in used}
        self.shapes: Shapes = shapes

    def read(self, names: list[str]) -> Iterator[tuple[str, Tensor]]:
        with ExitStack() as stack:
            handles = {
                path: stack.enter_context(safe_open(path, framework="pt"))
                for path in set(self._files.values())
            }
            for name in names:
                value = torch.empty(self.shapes[name])
                for part, view in released_tensors(name, value):
                    view.copy_(handles[self._files[part]].get_tensor(part))
                yield name, value


class SeveralSources:
    """Every tensor from the first source in which it fits; one that fits nowhere is as the first has it."""

    def __init__(self, sources: Sequence[WeightSource], wanted: Shapes) -> None:
        self._sources = sources
        self._giver: dict[str, WeightSource] = {}
        for name in dict.fromkeys(name for source in sources for name in source.shapes):
            having = [source for source in sources if name in source.shapes]
            fitting = [source for source in having if source.shapes[name] == wanted.get(name)]
            self._giver[name] = (fitting or having)[0]
        self.shapes: Shapes = {name: source.shapes[name] for name, source in self._giver.items()}

    def read(self, names: list[str]) -> Iterator[tuple[str, Tensor]]:
        for source in self._sources:
            yield from source.read([name for name in names if self._giver[name] is source])


def _parts(name: str, shape: tuple[int, ...], device: str) -> Iterator[tuple[str, Tensor]]:
    return released_tensors(name, torch.empty(shape, device=device))


def resolve(init: str, say: Callable[[str], None]) -> list[Path]:
    """The directories whose tensors `init` means: of a run, its newest whole checkpoint. Reads and checks every file.

    Raises:
        ConfigError: one is no run, checkpoint or model directory, or holds no whole checkpoint.
    """
    names = [init] if Path(init).is_dir() else init.split(",")
    return [_resolve_one(name, say) for name in names]


def _resolve_one(init: str, say: Callable[[str], None]) -> Path:
    directory = Path(init)
    if not directory.is_dir():
        raise ConfigError(
            f"init={init} is not a directory; give a run, a checkpoint in one, or a model in the released layout."
        )
    if (directory / "manifest.json").is_file():
        try:
            return Checkpoint.open(directory).directory
        except DamagedCheckpointError as error:
            raise ConfigError(f"init={init} is damaged: {error}.") from error
    if (directory / "config.yaml").is_file():
        checkpoint = find_checkpoint(RunDirectory(directory), say)
        if checkpoint is None:
            raise ConfigError(f"init={init} is a run without a whole checkpoint; train it first.")
        return checkpoint.directory
    if any(directory.glob("*.safetensors")):
        return directory
    raise ConfigError(
        f"init={init} is neither a run (config.yaml), a checkpoint (manifest.json) nor a model (*.safetensors)."
    )


def weight_source(directories: Sequence[Path], wanted: Shapes) -> WeightSource:
    """Open what `resolve` found, on any rank."""
    sources = [_open_one(directory, wanted) for directory in directories]
    return sources[0] if len(sources) == 1 else SeveralSources(sources, wanted)


def _open_one(directory: Path, wanted: Shapes) -> WeightSource:
    if (directory / "manifest.json").is_file():
        return CheckpointSource(Checkpoint.trust(directory))
    return ReleasedSource(directory, wanted)


def initialise(engine: TrainingEngine, source: WeightSource, wanted: Shapes, init: str) -> str:
    """Load what fits into this stage (collective); returns the report for the whole model.

    Args:
        wanted: every parameter of the whole model.

    Raises:
        ConfigError: nothing fits.
    """
    loaded = [name for name, shape in wanted.items() if source.shapes.get(name) == shape]
    if not loaded:
        raise ConfigError(f"init={init} holds no tensor that fits this model by name and shape.")
    mine = dict(engine.named_parameters())
    for name, tensor in source.read([name for name in loaded if name in mine]):
        engine.set_master(mine[name], tensor)
    engine.finish_loading(optimizer_steps=0)
    reshaped = [name for name in wanted if name in source.shapes and source.shapes[name] != wanted[name]]
    fresh = [name for name in wanted if name not in source.shapes]
    unused = [name for name in source.shapes if name not in wanted]
    report = f"init: {len(loaded)} of {len(wanted)} tensors from {init}"
    for what, names in (("new", fresh), ("new because of another shape", reshaped), ("left behind", unused)):
        if names:
            report += f"; {what}: {len(names)} ({', '.join(_roots(names))})"
    return report


def _roots(names: list[str]) -> list[str]:
    """`model.layers.0.mlp...` becomes `model.layers`; each root once, in order."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
