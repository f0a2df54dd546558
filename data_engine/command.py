"""What `python -m data_engine` can be told; every field is a key of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass

from data_engine.document_options import DegradeOptions
from data_engine.kinds import kind_named


@dataclass
class Command:
    """One of kind=, verify=, index=, assets= says what to do."""

    kind: str | None = None
    """Make a dataset of this kind; it needs out=DIR."""
    verify: str | None = None
    """Check a dataset, or a directory of datasets: every checksum, count and image; draws a contact sheet."""
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
    """Processes that render."""
    out: str | None = None
    """The directory to make. A finished dataset is never overwritten, an unfinished one is finished.
    With index=: where the index goes, when it cannot lie beside the tars."""
    shard_samples: int = 1000
    """Samples per shard."""
    sheet: str | None = None
    """Where verify= draws its contact sheet; null: beside the dataset, as NAME-contact-sheet.png."""
    layout: str | None = None
    """With index=: own, caption (LAION), page (image + txt or md), conversation (LLaVA), text; null: found out."""
    prompt: str | None = None
    """With index=: the prompt of every sample, with one <image>; \\n is a new line; null: that of the layout."""
    response: str | None = None
    """With index=: the member that holds the response: txt, md or json.FIELD; null: found out."""
    task: str | None = None
    """With index=: the task of every sample, which a mixture or resolution modes may name; null: the layout."""
    degrade: DegradeOptions = field(default_factory=DegradeOptions)
    """Blur, noise, shadow and the like on the pictures of any kind."""


def schema_of(arguments: list[str]) -> type:
    """The command with the options of the kind that was asked for."""
    name = next((a.removeprefix("kind=").strip("'\"") for a in arguments if a.startswith("kind=")), None)
    if name is None:
        return Command
    options = kind_named(name).options
    made = make_dataclass("Command", [("options", options, field(default_factory=options))], bases=(Command,))
    made.__module__, made.__qualname__ = __name__, f"Command_{name}"
    return made
