"""The user's own data as a job: shards of ours, each a pure function of its records and their images."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import PIL

from data_engine import ENGINE_VERSION
from data_engine.at_work import note_sample
from data_engine.errors import ConfigError
from data_engine.foreign import UnusableError
from data_engine.imports.options import ImportOptions
from data_engine.imports.records import Fields, choose_fields, sample_of
from data_engine.imports.source import Source, open_source
from data_engine.sample import IMAGE_PLACEHOLDER, Sample, printable
from data_engine.shards import FinishedShard, Skipped, write_shard

KIND = "import"
_VERSION = 2
"""Changes whenever the same records give other samples."""
_TRIED_PIECES, _TRIED_RECORDS = 8, 8


@dataclass(frozen=True)
class Import:
    """What the user asked for."""

    source: Path
    directory: Path
    """Where the dataset goes."""
    options: ImportOptions
    format: str | None = None
    """None is found out."""
    prompt: str | None = None
    """Of records that have none."""
    task: str | None = None
    shard_samples: int = 1000
    """Records per shard."""


@dataclass(frozen=True)
class ImportJob:
    """An import whose source was opened. A `data_engine.job.Job`."""

    wish: Import
    source: Source
    fields: Fields
    kind: str = KIND
    seed: int = 0

    @property
    def directory(self) -> Path:
        return self.wish.directory

    @property
    def shards(self) -> int:
        return self.source.pieces

    def shard_name(self, number: int) -> str:
        return f"{KIND}-{number:06d}"

    def indices(self, number: int) -> range:
        """The records of a shard, counted over the source."""
        return self.source.indices(number)

    def configuration(self, number: int) -> dict[str, Any]:
        """All that the samples of a shard follow from but the images, which are taken to stay as they are."""
        indices = self.indices(number)
        options = {name: value for name, value in asdict(self.wish.options).items() if name != "images"}
        return {
            "engine_version": ENGINE_VERSION,
            "kind": KIND,
            "import": {"version": _VERSION, "format": self.source.format, "fields": asdict(self.fields)},
            "options": options,
            "indices": [indices.start, indices.stop],
            "records": self.source.identity(number),
            "versions": _versions(),
        }

    def manifest(self) -> dict[str, Any]:
        wish = {
            name: value for name, value in asdict(self.wish).items() if name not in ("directory", "options")
        }
        return {
            "options": asdict(self.wish.options),
            "versions": {"engine": str(ENGINE_VERSION), **_versions()},
            "plan": {**wish, "source": str(self.wish.source)},
        }

    def make_shard(self, number: int) -> FinishedShard:
        configuration = self.configuration(number)
        skipped: list[Skipped] = []

        def samples() -> Iterator[Sample | Skipped]:
            for made in self.samples(number):
                if isinstance(made, Skipped):
                    skipped.append(made)
                yield made

        record = write_shard(self.directory, self.shard_name(number), samples(), configuration)
        return FinishedShard(record, configuration, skipped)

    def sample(self, number: int, index: int) -> Sample | Skipped:
        """What one record gives. Those before it in its shard are read, too, but not their images."""
        for made in self.samples(number, index - self.indices(number).start):
            return made
        return Skipped(index, "record is gone", str(self.wish.source))

    def samples(self, number: int, start: int = 0) -> Iterator[Sample | Skipped]:
        """The samples of a shard from record `start` of it on, and what gave none."""
        records = zip(self.indices(number), self.source.records(number), strict=False)
        for index, (place, record) in islice(records, start, None):
            note_sample(index)
            place = printable(place)  # of a file's name or a record: neither has to be Unicode
            key, provenance = f"{KIND}-{index:09d}", {"kind": KIND, "index": index, "place": place}
            try:
                if isinstance(record, UnusableError):
                    raise record
                yield sample_of(key, record, self.fields, self.wish.options, self.source.root, provenance)
            except UnusableError as error:
                yield Skipped(index, str(error), place)


def _versions() -> dict[str, str]:
    return {"pillow": PIL.__version__}


def _absolute(wish: Import) -> Import:
    """With paths that mean the same in any directory, as the manifest keeps them.

    Links are not followed: places tell the names that the user gave, and a link in a cache of the Hugging Face hub
    leads to a file whose name says neither its format nor its split.
    """
    images = wish.options.images
    options = replace(wish.options, images=None if images is None else os.path.abspath(images))
    return replace(wish, source=Path(os.path.abspath(wish.source)), options=options)


@contextmanager
def open_import(wish: Import, say: Callable[[str], None]) -> Iterator[ImportJob]:
    """Look at the source and open it as a job. `say` tells what was found out.

    What has to be rewritten as lines lies hidden in the directory of the dataset until the block ends, so that
    other nodes see it, too. Raises ConfigError when nothing can be imported.
    """
    if wish.prompt is not None and wish.prompt.count(IMAGE_PLACEHOLDER) > 1:
        raise ConfigError(f"prompt has several {IMAGE_PLACEHOLDER} marks: give it one, or none.")
    wish = _absolute(wish)
    scratch = wish.directory / f".{KIND}-{platform.node()}-{os.getpid()}.jsonl"

    def scratch_file() -> Path:
        try:
            wish.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"out={wish.directory} cannot be made a directory: {error.strerror}."
            ) from error
        return scratch

    try:
        source = open_source(wish.source, wish.format, wish.options, wish.shard_samples, scratch_file)
        wish = replace(wish, format=source.format)
        found = source.fields()
        fields = choose_fields(found, wish.options, wish.prompt, wish.task, str(wish.source))
        job = ImportJob(wish, source, fields)
        _try_some(job)
        say(f"format={source.format}, records have the fields {', '.join(sorted(found))}")
        yield job
    finally:
        scratch.unlink(missing_ok=True)


def _try_some(job: ImportJob) -> None:
    """ConfigError when none of some records, spread over the source, can be used: then the command is wrong."""
    step = -(-job.shards // _TRIED_PIECES)
    reasons: Counter[str] = Counter()
    example = ""
    for number in range(0, job.shards, step):
        for made in islice(job.samples(number), _TRIED_RECORDS):
            if isinstance(made, Sample):
                return
            reasons[made.reason] += 1
            example = example or made.place
    found = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    raise ConfigError(
        f"none of {reasons.total()} records of {job.wish.source} can be used ({found or 'it has only blank lines'}; "
        f"first: {example or 'none'}); image paths start at {job.source.root}, which options.images=DIR changes."
    )
