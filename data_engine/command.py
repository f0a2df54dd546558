"""What `python -m data_engine` can be told; every field is a key of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass

from data_engine.degrade_options import DegradeOptions
from data_engine.imports.options import ImportOptions
from data_engine.kinds import kind_named


@dataclass
class Command:
    """One of kind=, import=, verify=, repair=, look=, index=, assets= says what to do."""

    kind: str | None = None
    """Make a dataset of this kind; it needs out=DIR."""
    import_: str | None = None
    """Copy data of your own into shards: a file or a directory; it needs out=DIR. JSONL with image, prompt and response
    (all its fields: data_engine/imports/records.py), COCO's JSON, a JSON list, Parquet, a dataset that `datasets`
    saved, images beside texts of the same name, or plain text. Tars are read where they lie, without a copy: index=."""
    format: str | None = None
    """With import=: jsonl, coco (also JSON lists), arrow, parquet, pairs or text; null: found out."""
    verify: str | None = None
    """Check a dataset, or a directory of datasets: every checksum, count and image. Five samples of each are made again
    and compared, other ones with another seed=, where its source and versions are here. Draws a contact sheet."""
    repair: str | None = None
    """Make the shards of a dataset again that are missing or damaged, to the same bytes."""
    look: str | None = None
    """Write an HTML page about a dataset, or a directory of datasets: samples with their labels, statistics."""
    tokenizer: str | None = None
    """With look=: a tokenizer.json, to count tokens, too."""
    index: str | None = None
    """Make WebDataset tars of others readable where they lie: a directory, or a URL that fsspec knows (then with out=).
    Also writes dataset.index for a dataset made before there was one."""
    assets: str | None = None
    """assets=fetch gets ECharts and the Chinese font through npm, into .assets/ (or $DATA_ENGINE_ASSETS)."""
    samples: int = 1000
    """How many samples; those that are skipped by rule count too."""
    seed: int = 0
    """Another seed, other samples. The same seed gives the same bytes, whatever the number of workers."""
    workers: int = 1
    """Processes that make shards. With two or more, a sample that kills its process is named, and Ctrl-C also ends one
    that hangs in a library; with one that takes Ctrl-\\, which leaves whole shards behind, too."""
    executor: str = "local"
    """local; ray (a cluster at RAY_ADDRESS, else one on this machine); or ranks: this is one of several runs of the
    same command that share the work, as rank= and world= or torchrun, srun, sbatch --array or Kubernetes say. Each
    makes whole shards of its own; whichever ends last writes the manifest. For one that died give the command again,
    with its rank or without executor=."""
    rank: int | None = None
    """With executor=ranks: the number of this run, from 0; null: as its launcher says."""
    world: int | None = None
    """With executor=ranks: how many runs there are; null: as their launcher says."""
    out: str | None = None
    """The directory to make. A finished dataset is never overwritten, an unfinished one is finished.
    With index=: where the index goes, when it cannot lie beside the tars. With look=: the HTML file."""
    shard_samples: int = 1000
    """Samples per shard."""
    sheet: str | None = None
    """Where verify= draws its contact sheet; null: beside the dataset, as NAME-contact-sheet.png."""
    layout: str | None = None
    """With index=: own, caption (LAION), page (image + txt or md), conversation (LLaVA), text; null: found out."""
    prompt: str | None = None
    """With index=: the prompt of every sample, with one <image>; \\n is a new line; null: that of the layout.
    With import=: the prompt of samples that bring none."""
    response: str | None = None
    """With index=: the member that holds the response: txt, md or json.FIELD; null: found out."""
    task: str | None = None
    """With index=: the task of every sample, which a mixture or resolution modes may name; null: the layout.
    With import=: the task of samples that bring none."""
    degrade: DegradeOptions = field(default_factory=DegradeOptions)
    """Blur, noise, shadow and the like on the pictures of any kind."""


def schema_of(arguments: list[str]) -> type:
    """The command with the options of the kind, or of the import, that was asked for."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if "import" in given:
        return _with_options(ImportOptions, "import")
    if "kind" not in given:
        return Command
    name = given["kind"].strip("'\"")
    return _with_options(kind_named(name).options, name)


def _with_options(options: type, name: str) -> type:
    made = make_dataclass("Command", [("options", options, field(default_factory=options))], bases=(Command,))
    made.__module__, made.__qualname__ = __name__, f"Command_{name}"
    return made
