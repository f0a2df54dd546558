"""What `python -m train` does besides training. Each returns what to print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_engine.dataset import open_datasets
from data_engine.files import atomic_write_json
from model.config import RELEASED_IMAGE_TOKEN_ID
from train.assemble import model_config
from train.config import TrainConfig, World, require
from train.data.report import data_report
from train.data.report_text import format_report
from train.export import export_run
from train.loaders import make_loader
from train.planning.plan import Plan
from train.planning.report import plan_as_text, write_plan
from train.prepare import read_tokenizer
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
    """What this configuration costs, without data, processes or a GPU; files go to `out`, or to the run's report."""
    if config.tokenizer:
        tokenizer = read_tokenizer(config)
        vocabulary = tokenizer.vocab_size, tokenizer.image_id
    elif config.model.preset == "nano" and not config.model.directory:
        vocabulary = config.vocab_size, 3
    else:
        vocabulary = 129280, RELEASED_IMAGE_TOKEN_ID
    made = Plan.of(config, model_config(config.model, *vocabulary))
    text = plan_as_text(made)
    directory = Path(config.out) if config.out else Path(config.run) / "report" if config.run else None
    if directory is None:
        return f"{text}\n\nFor the timeline as a picture, give out=DIR (or run=DIR)."
    return f"{text}\n\nwritten: {', '.join(str(path) for path in write_plan(made, directory))}"


def report_data(config: TrainConfig) -> str:
    """What the data of this run will be; with `run`, also written to its report/data.json."""
    # As rank 0 of the run sees it: the first stage alone reads data.
    rank_0 = World(rank=0, size=config.data_parallel, local_rank=0, pipeline_stages=1)
    loader = make_loader(config, rank_0, read_tokenizer(config))
    assert loader is not None
    report = data_report(loader, config.steps)
    text = format_report(report)
    if config.run:
        path = RunDirectory(config.run).data_report_file
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, report)
        text += f"\nwritten to {path}"
    return text
