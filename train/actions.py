"""What `python -m train` does besides training. Each returns what to print."""

from __future__ import annotations

from collections.abc import Callable

from data_engine.dataset import open_datasets
from model.config import RELEASED_IMAGE_TOKEN_ID
from train.assemble import model_config
from train.config import TrainConfig, require
from train.cut import table_as_text
from train.data.report import data_report, format_report
from train.export import export_run
from train.prepare import cut_model, read_tokenizer
from train.run_directory import RunDirectory
from train.tokenizer import train_tokenizer


def make_tokenizer(config: TrainConfig) -> str:
    """Train a small tokenizer from `data` into `out`."""
    require(bool(config.data), "data is required: give data=DIR, whose texts the tokenizer is trained on.")
    require(bool(config.out), "out is required: give out=DIR for the tokenizer's files.")
    tokenizer = train_tokenizer(open_datasets(config.data), config.out, config.vocab_size)
    return f"tokenizer with {tokenizer.get_vocab_size()} tokens in {config.out}"


def export(config: TrainConfig, say: Callable[[str], None]) -> str:
    """Write a run's last checkpoint in the released layout."""
    require(bool(config.run), "run is required: give run=DIR, the stage-2 run to export.")
    require(bool(config.out), "out is required: give out=DIR for the exported model.")
    checkpoint = export_run(RunDirectory(config.run), config.out, say)
    return f"exported step {checkpoint.step} of {config.run} to {config.out}"


def plan(config: TrainConfig) -> str:
    """The stage table, without data, tokenizer or processes."""
    if config.tokenizer:
        tokenizer = read_tokenizer(config)
        vocabulary = tokenizer.vocab_size, tokenizer.image_id
    elif config.model.preset == "nano" and not config.model.directory:
        vocabulary = config.vocab_size, 3
    else:
        vocabulary = 129280, RELEASED_IMAGE_TOKEN_ID
    model = model_config(config.model, *vocabulary)
    return table_as_text(cut_model(config, model, config.data_parallel)[2])


def report_data(config: TrainConfig) -> str:
    """What the packed data of this run looks like."""
    require(bool(config.data), "data is required: give data=DIR with one dataset or several.")
    report = data_report(
        open_datasets(config.data),
        read_tokenizer(config),
        config.resolution_modes(),
        config.sequence.budgets(),
        config.data_mixture(),
        config.seed,
        config.micro_batches * config.data_parallel,
        config.steps,
    )
    return format_report(report)
