"""`python -m data_engine repair=DIR`: shards that are missing or damaged are made again, to the same bytes.

A dataset says in its manifest all that it follows from. The new shards are made aside, compared with the checksums
of the manifest, and only then take their places.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_engine.dataset import Dataset
from data_engine.degrade_options import DegradeOptions
from data_engine.errors import ConfigError, DamagedSampleError
from data_engine.executors import Executor, make_here
from data_engine.files import sha256_of
from data_engine.imports.job import KIND as IMPORT_KIND
from data_engine.imports.job import Import, open_import
from data_engine.imports.options import ImportOptions
from data_engine.index_file import INDEX_NAME
from data_engine.index_run import KIND as INDEXED_KIND
from data_engine.job import Job
from data_engine.kinds import kind_named
from data_engine.manifest import MANIFEST_NAME, ShardRecord, read_manifest, shards_of
from data_engine.plan import Plan
from data_engine.run import difference
from data_engine.shard_index import write_dataset_index
from data_engine.skips import is_skipped_whole, write_skipped
from data_engine.storage import storage_at


def repair(
    directory: Path,
    workers: int,
    progress: Callable[[str, int, int], None],
    executor: Executor = make_here,
) -> dict[str, str]:
    """Make the bad shards of a finished dataset again. Shard -> what was wrong with it.

    `progress("check" or "make", shards done, shards)`. Raises ConfigError when the dataset cannot be made again here:
    no manifest, tars of others, other versions of the libraries, a source that changed.
    """
    manifest = read_manifest(storage_at(directory))
    if manifest["kind"] == INDEXED_KIND:
        raise ConfigError(
            f"{directory} holds tars of others, which cannot be made again: copy the bad ones again."
        )
    if "plan" not in manifest:
        raise ConfigError(
            f"{directory} does not say how it was made, it is older than repair=: remove its {MANIFEST_NAME} and give "
            "the command that made it once more, which keeps the whole shards."
        )
    bad: dict[int, str] = {}
    shards = shards_of(manifest)
    for number, record in enumerate(shards):
        if problem := problem_of(directory, record):
            bad[number] = problem
        progress("check", number + 1, len(shards))
    if bad:
        aside = directory / f".repair-{platform.node()}-{os.getpid()}"
        aside.mkdir()
        try:
            with job_of(manifest, aside) as job:
                _make_again(job, shards, sorted(bad), workers, progress, executor)
            for number in bad:
                for suffix in ("tar", "npz"):
                    name = f"{shards[number].name}.{suffix}"
                    os.replace(aside / name, directory / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    _repair_index(directory, manifest)
    names = [shard.name for shard in shards]
    if not is_skipped_whole(directory, names):
        write_skipped(directory, names)
    return {shards[number].name: problem for number, problem in bad.items()}


def problem_of(directory: Path, record: ShardRecord) -> str:
    """What is wrong with the files of a shard, or "". Equal checksums are equal bytes, so no sample is looked at."""
    for name, expected in (
        (f"{record.name}.tar", record.sha256),
        (f"{record.name}.npz", record.index_sha256),
    ):
        try:
            if sha256_of(directory / name) != expected:
                return f"the sha256 of {name} does not match"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return ""


def _make_again(
    job: Job,
    shards: list[ShardRecord],
    numbers: list[int],
    workers: int,
    progress: Callable[[str, int, int], None],
    executor: Executor,
) -> None:
    for done, (number, shard) in enumerate(executor(job, numbers, workers), 1):
        if shard.record != shards[number]:
            raise ConfigError(
                f"{shards[number].name} comes out with other bytes than it had: nothing was changed. The dataset was "
                "made by another version of this program or of a library, or what it was made from has changed."
            )
        progress("make", done, len(numbers))


@contextmanager
def job_of(manifest: dict[str, Any], directory: Path) -> Iterator[Job]:
    """What the dataset was made from, with another place to write to.

    Raises ConfigError when it would come out otherwise here: other versions, a source that changed or is gone.
    """
    plan, options = dict(manifest["plan"]), dict(manifest["options"])
    try:
        if manifest["kind"] == IMPORT_KIND:
            wish = Import(directory=directory, options=ImportOptions(**options), **plan)
            opened: Any = open_import(replace(wish, source=Path(wish.source)), lambda line: None)
        else:
            degrade = DegradeOptions(**options.pop("degrade", {"probability": 0.0}))
            kind = kind_named(manifest["kind"])
            made = kind.options(**options)
            seed = manifest["seed"]
            opened = nullcontext(
                Plan(manifest["kind"], made, directory=directory, degrade=degrade, seed=seed, **plan)
            )
    except TypeError as error:
        raise ConfigError(
            f"the options in {MANIFEST_NAME} are of another version of this program ({error})."
        ) from error
    with opened as job:
        if differs := difference(manifest["versions"], job.manifest()["versions"], "versions"):
            raise ConfigError(f"the dataset cannot be made again here to the same bytes: {differs}.")
        if job.shards != len(manifest["shards"]):
            raise ConfigError(
                f"what the dataset was made from has changed: it gives {job.shards} shards now, and the dataset has "
                f"{len(manifest['shards'])}."
            )
        yield job


def _repair_index(directory: Path, manifest: dict[str, Any]) -> None:
    """dataset.index follows from the indices of the shards."""
    try:
        storage_at(directory).size(INDEX_NAME)
        Dataset.open(directory).index.verify()
    except (ConfigError, DamagedSampleError, OSError):
        write_dataset_index(directory, manifest)
