"""Making a dataset: shards are pure functions of the command, so any process may make any of them.

`make_shard(job, number)` is the unit of work; `make_dataset` deals the numbers out. An interrupted run leaves
whole shards only; the same command again makes the missing ones. Several runs may share the work (`Share`): each
makes its own shards, and whichever finds all of them there writes the manifest.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.executors import Executor, make_here
from data_engine.files import remove_temporaries
from data_engine.job import Job, Share
from data_engine.kinds import kind_named
from data_engine.manifest import read_manifest
from data_engine.plan import Plan, close_renderer, make_sample
from data_engine.sample import printable
from data_engine.shard_index import read_finished
from data_engine.shards import (
    MANIFEST_NAME,
    FinishedShard,
    ShardRecord,
    canonical_json,
    find_finished,
    write_manifest,
)
from data_engine.skips import Skips, skipped_in, write_skipped
from data_engine.storage import storage_at

__all__ = [
    "Outcome",
    "Plan",
    "close_renderer",
    "make_dataset",
    "make_sample",
    "make_shard",
    "options_of",
]

WHOLE = Share()


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    manifest: dict[str, Any] | None
    """None while other runs still make shards of this dataset."""
    skips: Skips
    reused_shards: int
    missing_shards: int = 0
    """Of the other runs."""


def make_shard(job: Job, number: int) -> FinishedShard:
    """Make one shard: the same bytes from the same job and number, in any process, in any order."""
    return job.make_shard(number)


def make_dataset(
    job: Job,
    workers: int,
    progress: Callable[[int, int, Counter[str]], None],
    share: Share = WHOLE,
    executor: Executor = make_here,
) -> Outcome:
    """Make, or finish, the dataset of a job. `progress(done, samples in all, reason -> skipped)` is called per shard.

    Raises ConfigError when the target holds a finished dataset or shards of another configuration, and OSError
    as the file system reports it; no half shard is left.
    """
    _check_names(job)
    numbers = share.of(job.shards)
    if numbers:
        job.configuration(numbers[0])  # here already, so that a missing asset is one sentence
    if (manifest := _prepare(job, share)) is not None:
        return Outcome(manifest, Skips(), len(numbers))
    skips = Skips()
    finished = _finished_shards(job, numbers, skips)
    reused = len(finished)
    done = sum(len(job.indices(number)) for number in finished)
    total = sum(len(job.indices(number)) for number in numbers)
    progress(done, total, skips.reasons)
    try:
        for number, shard in executor(job, [number for number in numbers if number not in finished], workers):
            finished[number] = (
                shard.record
            )  # and not what it skipped: that of a whole run may be too much to keep
            done += len(job.indices(number))
            skips.add(shard.skipped)
            progress(done, total, skips.reasons)
    finally:
        _remove_temporaries(job, share)
    finished |= _shards_of_others(job, share)
    if len(finished) < job.shards:
        return Outcome(None, skips, reused, job.shards - len(finished))
    return Outcome(finish(job, [finished[number] for number in range(job.shards)]), skips, reused)


def _check_names(job: Job) -> None:
    """ConfigError when the manifest, which is written last, could not hold a name that the user gave."""
    try:
        canonical_json(job.manifest()).encode("utf-8")
    except UnicodeEncodeError as error:
        near = printable(error.object[max(0, error.start - 60) : error.end + 30])
        raise ConfigError(
            f"a path or text that was given is not Unicode (near {near}): give the file another name."
        ) from error


def finish(job: Job, shards: list[ShardRecord]) -> dict[str, Any]:
    """Write skipped.jsonl, index and manifest over all shards. ConfigError when they hold no sample at all."""
    names = [shard.name for shard in shards]
    named = write_skipped(job.directory, names)
    if not any(shard.samples for shard in shards):
        skips = Skips(skipped_in(job.directory, names))
        reason, _ = skips.reasons.most_common(1)[0]
        raise ConfigError(
            f"no sample could be made: all {skips.reasons.total()} were skipped ({reason}); see {named}."
        )
    return write_manifest(
        job.directory,
        kind=job.kind,
        seed=job.seed,
        shards=shards,
        skipped=skipped_in(job.directory, names),
        **job.manifest(),
    )


def _prepare(job: Job, share: Share) -> dict[str, Any] | None:
    """Make the directory. The manifest, where other runs of the same command have finished it already."""
    directory = job.directory
    if (directory / MANIFEST_NAME).exists():
        manifest = None if share.is_whole else read_manifest(storage_at(directory))
        ours = {"kind": job.kind, "seed": job.seed, **job.manifest()}
        if manifest is not None and not difference({**manifest, **ours}, manifest):
            return manifest
        raise ConfigError(
            f"{directory} already holds a finished dataset: give another out=DIR, or remove it first."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"out={directory} cannot be made a directory: {error.strerror}.") from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"out={directory} cannot be written to: change its permissions or give another.")
    _remove_temporaries(job, share)
    return None


def _remove_temporaries(job: Job, share: Share) -> None:
    """What killed writers left. Of several runs, each owns the files of its own shards and no others."""
    names = None if share.is_whole else [job.shard_name(number) for number in share.of(job.shards)]
    remove_temporaries(job.directory, names)


def _finished_shards(job: Job, numbers: Iterable[int], skips: Skips) -> dict[int, ShardRecord]:
    """The shards that need not be made again, and in `skips` what they skipped.

    Raises ConfigError when the directory is another job's.
    """
    expected = {job.shard_name(number): number for number in range(job.shards)}
    ours = set(numbers)
    found: dict[int, ShardRecord] = {}
    for path in sorted(job.directory.glob("*.npz")):
        number = expected.get(path.stem)
        if number is None and find_finished(job.directory, path.stem) is not None:
            _refuse(job.directory, f"{path.stem} is not among its shards")
        if number is None:
            continue
        # Of the shards of other runs only what they follow from is looked at.
        shard = (find_finished if number in ours else read_finished)(job.directory, path.stem)
        if shard is None:
            continue
        _check_ours(job, number, shard)
        if number in ours:
            found[number] = shard.record
            skips.add(shard.skipped)
    return found


def _check_ours(job: Job, number: int, shard: FinishedShard) -> None:
    """ConfigError when a shard that is there is not the one that the job would make."""
    if differs := difference(shard.configuration, job.configuration(number)):
        _refuse(job.directory, differs)


def _refuse(directory: Path, differs: str) -> None:
    raise ConfigError(
        f"{directory} holds shards of another command ({differs}): give another out=DIR, or the "
        "same command to finish them."
    )


def _shards_of_others(job: Job, share: Share) -> dict[int, ShardRecord]:
    """What the other runs have finished so far. Their tars are whole: an index is renamed into place after its tar.

    Raises ConfigError when one of them was given other options, or has other versions: they would never be done.
    """
    found: dict[int, ShardRecord] = {}
    for number in range(job.shards):
        if share.is_whole or number % share.world == share.rank:
            continue
        shard = read_finished(job.directory, job.shard_name(number))
        if shard is not None:
            _check_ours(job, number, shard)
            found[number] = shard.record
    return found


def difference(there: Any, here: Any, key: str = "") -> str:
    """The first place where two configurations differ, for people; "" when they are equal."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(set(there) | set(here)):
            inner = f"{key}.{name}" if key else name
            if found := difference(there.get(name), here.get(name), inner):
                return found
        return ""
    there_json, here_json = canonical_json(there), canonical_json(json.loads(canonical_json(here)))
    return "" if there_json == here_json else f"{key} is {there_json} there and {here_json} here"


def options_of(kind: str) -> type:
    """The options dataclass of a kind."""
    return kind_named(kind).options
