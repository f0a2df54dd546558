"""The held-out data of a run: opened, and refused where it cannot be used, before any process group exists."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.dataset import Dataset, open_datasets
from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from train.config import TrainConfig, World
from train.data.damage import DamagedDataError
from train.data.loader import HeldOutLoader
from train.data.loader_settings import LoaderSettings


@dataclass(frozen=True)
class HeldOut:
    """The held-out data of a first stage; empty on all other ranks, and when nothing is evaluated."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    loaders: dict[str, HeldOutLoader] = field(default_factory=dict)


def open_held_out(config: TrainConfig, world: World, tokenizer: Tokenizer) -> HeldOut:
    """What `evaluate.data` names, for this rank.

    Raises:
        ConfigError: there is no data, a text is damaged, or none of a dataset's samples fits a micro-batch.
    """
    if not config.evaluate.every or world.rank >= world.data_parallel_size:
        return HeldOut()
    try:
        datasets = open_datasets(config.evaluate.data)
        settings = LoaderSettings(
            modes=config.resolution_modes(),
            shape=config.sequence.budgets(),
            micro_batches_per_step=config.micro_batches,
            data_parallel_size=world.data_parallel_size,
            data_parallel_rank=world.rank,
            prefetch=0,
            too_long=config.too_long,
        )
        loaders = {
            name: HeldOutLoader({name: dataset}, tokenizer, settings) for name, dataset in datasets.items()
        }
    except (ConfigError, DamagedDataError) as error:
        raise ConfigError(f"evaluate.data: {error}") from error
    return HeldOut(datasets, loaders)
