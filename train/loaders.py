"""The data of a run, opened and refused before any process group exists: what is trained on, and what is held out.

Ranks are laid out stage by stage: the first `data_parallel_size` ranks are the first stage of every pipeline, and they
alone read data.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from data_engine.dataset import Dataset, open_datasets
from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.config import TrainConfig, World, require
from train.data.damage import DamagedDataError
from train.data.loader import HeldOutLoader, PackedLoader
from train.data.loader_settings import LoaderSettings


@dataclass(frozen=True)
class HeldOut:
    """The held-out data of a first stage; empty on all other ranks, and when nothing is evaluated."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    loaders: dict[str, HeldOutLoader] = field(default_factory=dict)


def make_loader(config: TrainConfig, world: World, tokenizer: Tokenizer) -> PackedLoader | None:
    """The reader of this rank, or None where no data is read.

    Raises:
        ConfigError: there is no data, or it cannot be packed as the configuration says.
    """
    require(bool(config.data), "data is required: give data=DIR with one dataset or several.")
    if not _reads_data(world):
        return None
    settings = replace(
        _common_settings(config, world),
        prefetch=config.prefetch,
        workers=config.workers,
        lengths_cache=config.lengths_cache or None,
        damage=config.damage,
    )
    return PackedLoader(
        open_datasets(config.data),
        tokenizer,
        settings,
        config.data_mixture(),
        config.seed,
        config.sample_order(),
    )


def open_held_out(config: TrainConfig, world: World, tokenizer: Tokenizer) -> HeldOut:
    """What `evaluate.data` names, for this rank.

    Raises:
        ConfigError: there is no data, a text is damaged, or none of a dataset's samples fits a micro-batch.
    """
    if not config.evaluate.every or not _reads_data(world):
        return HeldOut()
    try:
        datasets = open_datasets(config.evaluate.data)
        settings = _common_settings(config, world)
        loaders = {
            name: HeldOutLoader({name: dataset}, tokenizer, settings) for name, dataset in datasets.items()
        }
    except (ConfigError, DamagedDataError) as error:
        raise ConfigError(f"evaluate.data: {error}") from error
    return HeldOut(datasets, loaders)


def _reads_data(world: World) -> bool:
    return world.rank < world.data_parallel_size


def _common_settings(config: TrainConfig, world: World) -> LoaderSettings:
    """Of a loader that reads when it is asked, and stops at the first sample that cannot be used."""
    return LoaderSettings(
        modes=config.resolution_modes(),
        shape=config.sequence.budgets(),
        micro_batches_per_step=config.micro_batches,
        data_parallel_size=world.data_parallel_size,
        data_parallel_rank=world.rank,
        prefetch=0,
        too_long=config.too_long,
    )
