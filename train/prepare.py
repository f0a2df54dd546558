"""Everything about a run that can be known and refused before a process group exists.

Every rank prepares the same; only the ranks of the first stage open the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from data_engine.errors import ConfigError
from model.config import DeepseekOCRConfig
from model.tokenizer import Tokenizer, TokenizerError
from train.assemble import PipelineLayer, model_config
from train.config import TrainConfig, World, require
from train.data.loader import PackedLoader
from train.loaders import HeldOut, make_loader, open_held_out
from train.planning.cutting import CutModel, cut_model
from train.run_directory import RunDirectory


@dataclass(frozen=True)
class Prepared:
    """A checked run, ready to be started."""

    config: TrainConfig
    world: World
    run: RunDirectory
    tokenizer: Tokenizer
    model: DeepseekOCRConfig
    cut: CutModel
    loader: PackedLoader | None
    """On the ranks of the first stage."""
    held_out: HeldOut
    """Likewise; empty when nothing is evaluated."""

    @property
    def layers(self) -> list[PipelineLayer]:
        return self.cut.layers

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter of the model."""
        return {name: shape for layer in self.layers for name, shape in layer.shapes.items()}


def read_tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer of the run; ConfigError when there is none."""
    require(bool(config.tokenizer), "tokenizer is required: give tokenizer=DIR with a tokenizer.json.")
    try:
        return Tokenizer.from_directory(config.tokenizer)
    except TokenizerError as error:
        raise ConfigError(f"tokenizer: {error}") from error


def gpu_memory(config: TrainConfig, world: World) -> float:
    """GiB of one GPU: as configured, or this process's device; 0 without a GPU."""
    if config.gpu_memory or not torch.cuda.is_available():
        return config.gpu_memory
    device = world.local_rank % torch.cuda.device_count()
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def prepare(config: TrainConfig) -> Prepared:
    """Check everything and open what is read.

    Raises:
        ConfigError: whatever is not possible, in one sentence.
    """
    world = World.from_environment(config.parallel.pipeline_stages)
    require(
        bool(config.run), "run is required: give run=DIR, where the run keeps its checkpoints and metrics."
    )
    run = RunDirectory(config.run)
    tokenizer = read_tokenizer(config)
    model = model_config(config.model, tokenizer.vocab_size, tokenizer.image_id)
    cut = cut_model(config, model, world.data_parallel_size, gpu_memory(config, world))
    if world.rank == 0:
        run.check_belongs_to(config)
    loader = make_loader(config, world, tokenizer)
    held_out = open_held_out(config, world, tokenizer)
    if world.rank == 0:
        run.occupy(config, tokenizer)
    return Prepared(config, world, run, tokenizer, model, cut, loader, held_out)
