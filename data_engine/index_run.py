"""`python -m data_engine index=DIR`: makes tars from anywhere readable by number, where they lie, without copying.

Beside the tars (or in out=DIR, when they cannot be written to or are behind a URL) it leaves what `Dataset.open`
needs, and skipped.jsonl, which names every sample that cannot be used. An interrupted run goes on where it was:
a tar that has not changed is not read again.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from data_engine import ENGINE_VERSION
from data_engine.errors import ConfigError
from data_engine.files import atomic_write_text, remove_temporaries
from data_engine.foreign import Convention, choose, convention_record
from data_engine.manifest import MANIFEST_NAME, read_manifest
from data_engine.shard_index import FinishedShard, Skipped, read_finished, write_dataset_index
from data_engine.shards import write_manifest
from data_engine.skips import SKIPPED_NAME
from data_engine.storage import LocalStorage, Storage, is_url, storage_at
from data_engine.tar_index import LARGEST_FILE, configuration_of, groups_of, index_tar
from data_engine.tar_scan import TarError, TarScan

KIND = "tars"
"""What the manifest calls a dataset that was indexed and not made here."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4")
_FIRST_SAMPLES = 64
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Wishes:
    """What the user says of the tars; None is found out. See `foreign.choose`."""

    layout: str | None = None
    prompt: str | None = None
    response: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Indexed:
    """What a run did."""

    directory: Path
    manifest: dict[str, Any]
    skipped: list[Skipped]
    unused: dict[str, int] = field(default_factory=dict)
    """Extension -> how many members have it and were not used."""
    reused_tars: int = 0


def index_dataset(
    location: str,
    out: str | None,
    wishes: Wishes,
    workers: int,
    progress: Callable[[int, int, Counter[str]], None],
    say: Callable[[str], None],
) -> Indexed:
    """Index all tars of a directory or URL. `progress(tars done, tars, reason -> skipped)`; `say` tells what it
    detects.

    Raises ConfigError when there is nothing to index, a tar is damaged or compressed, or no sample can be used, and
    OSError when the result cannot be written.
    """
    tars = storage_at(location)
    names = _tar_names(tars)
    directory = _directory(tars, out)
    if (manifest := _made_here(directory)) is not None:
        if str(directory) != tars.location:
            raise ConfigError(
                f"out={directory} holds a finished dataset of kind={manifest['kind']}: give another."
            )
        write_dataset_index(directory, manifest)
        return Indexed(directory, manifest, [], reused_tars=len(manifest["shards"]))
    remove_temporaries(directory)
    convention = _convention(tars, names, wishes)
    for line in _description(convention):
        say(line)
    finished, errors, dropped = {}, [], Counter[str]()
    for name, result in _index_tars(_Job(tars.location, convention, directory), names, workers):
        if isinstance(result, str):
            errors.append(f"{name}.tar: {result}")
        else:
            finished[name] = result
            dropped.update(skip.reason for skip in result[0].skipped)
        progress(len(finished) + len(errors), len(names), dropped)
    if errors:
        more = f"; and {len(errors) - _ERRORS_SHOWN} more" if len(errors) > _ERRORS_SHOWN else ""
        raise ConfigError(
            f"{len(errors)} of {len(names)} tars in {tars.location} cannot be indexed: "
            f"{'; '.join(sorted(errors)[:_ERRORS_SHOWN])}{more}. Mend, copy again or remove them, and run this again."
        )
    return _finish(directory, tars, convention, [finished[name] for name in names])


def _finish(
    directory: Path, tars: Storage, convention: Convention, finished: list[tuple[FinishedShard, bool]]
) -> Indexed:
    shards = [shard for shard, _ in finished]
    skipped = [skip for shard in shards for skip in shard.skipped]
    reasons = Counter(skip.reason for skip in skipped)
    lines = [
        json.dumps({"sample": skip.place, "reason": skip.reason}, ensure_ascii=False) for skip in skipped
    ]
    atomic_write_text(directory / SKIPPED_NAME, "".join(f"{line}\n" for line in lines))
    if not any(shard.record.samples for shard in shards):
        found = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        raise ConfigError(
            f"no sample in {tars.location} can be used as layout={convention.layout} with "
            f"response={convention.response} ({found or 'the tars are empty'}): see {directory / SKIPPED_NAME}."
        )
    manifest = write_manifest(
        directory,
        kind=KIND,
        seed=0,
        shards=[shard.record for shard in shards],
        skipped=skipped,
        options={},
        versions={"engine": str(ENGINE_VERSION)},
        **convention_record(convention),
        **({} if tars.location == str(directory) else {"tars": tars.location}),
    )
    unused = sum((Counter(shard.unused) for shard in shards), Counter[str]())
    return Indexed(directory, manifest, skipped, dict(unused), sum(reused for _, reused in finished))


def _tar_names(tars: Storage) -> list[str]:
    """The tars without their ".tar"."""
    try:
        names = tars.names()
    except OSError as error:
        raise ConfigError(f"index={tars.location} cannot be listed: {error.strerror or error}.") from error
    if compressed := [name for name in names if name.endswith(_COMPRESSED)]:
        raise ConfigError(
            f"{tars.path(compressed[0])} is compressed, and what is compressed cannot be read by position: unpack it "
            "(not the files in it) into a plain .tar and remove the compressed one."
        )
    found = [
        name.removesuffix(".tar") for name in names if name.endswith(".tar") and not name.startswith(".")
    ]
    if not found:
        raise ConfigError(f"index={tars.location} holds no .tar: give the directory in which the tars lie.")
    return found


def _directory(tars: Storage, out: str | None) -> Path:
    if out is None and not isinstance(tars, LocalStorage):
        raise ConfigError(
            f"out is required: give out=DIR, the local directory for the index of {tars.location}."
        )
    if out is not None and is_url(out):
        raise ConfigError(f"out={out} is a URL: give a local directory.")
    directory = Path(os.path.abspath(out if out is not None else tars.location))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={directory} cannot be made a directory: {error.strerror}.") from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"{directory} cannot be written to: give out=DIR, where the index shall lie.")
    return directory


def _made_here(directory: Path) -> dict[str, Any] | None:
    """The manifest of a dataset that this program rendered, which has all it needs; None for other tars."""
    if (directory / MANIFEST_NAME).exists():
        manifest = read_manifest(LocalStorage(directory))
        return None if manifest["kind"] == KIND else manifest
    found = (read_finished(directory, path.stem) for path in sorted(directory.glob("*.npz")))
    shard = next((shard for shard in found if shard is not None), None)
    if shard is not None and "indexed" not in shard.configuration:
        raise ConfigError(
            f"{directory} is an unfinished dataset (its {shard.record.name}.npz is of python -m data_engine "
            f"kind={shard.configuration.get('kind')}): run the command that makes it again."
        )
    return None


def _convention(tars: Storage, names: list[str], wishes: Wishes) -> Convention:
    """What was wished for, completed by a look at the first samples of the first tar that has any."""
    samples: list[dict[str, bytes]] = []
    problem = ""
    for name in names:
        try:
            with tars.open(f"{name}.tar") as file:
                for group in islice(groups_of(TarScan(file, LARGEST_FILE), Counter()), _FIRST_SAMPLES):
                    texts = {text: member.data or b"" for text, member in group.texts.items()}
                    samples.append(texts | {member.name.lower(): b"" for _, member in group.images})
        except (TarError, OSError) as error:
            problem = problem or f"{tars.path(name)}.tar: {error}"
        if samples:
            break
    else:
        if problem:
            raise ConfigError(f"nothing in {tars.location} can be indexed: {problem}.")
    return choose(samples, **vars(wishes))


def _description(convention: Convention) -> list[str]:
    if convention.layout == "own":
        return ["layout=own: prompt, response and task from the json of every sample"]
    prompt = (
        f"prompt={convention.prompt!r}" if convention.layout != "conversation" else "prompt from the json"
    )
    return [
        f"layout={convention.layout} response={convention.response} task={convention.task} {prompt}",
        "(give layout=, response=, prompt= or task= if this is not what the tars hold)",
    ]


@dataclass(frozen=True)
class _Job:
    """Indexing one tar, as an object that can be sent to a worker."""

    location: str
    convention: Convention
    directory: Path

    def __call__(self, name: str) -> tuple[str, tuple[FinishedShard, bool] | str]:
        """The name, and its index with whether it was there already, or what is wrong with the tar."""
        tars = storage_at(self.location)
        try:
            there = read_finished(self.directory, name)
            if there is not None and there.configuration == configuration_of(tars, name, self.convention):
                return name, (there, True)
            return name, (index_tar(tars, name, self.convention, self.directory), False)
        except TarError as error:
            return name, str(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise  # the result cannot be written: no fault of the tar
            return name, f"it cannot be read ({error.strerror or error})"


def _index_tars(
    job: _Job, names: list[str], workers: int
) -> Iterator[tuple[str, tuple[FinishedShard, bool] | str]]:
    if workers == 1 or len(names) == 1:
        yield from map(job, names)
        return
    # Spawn, not fork: clients of object stores keep threads.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(names)), _start_worker) as pool:
        yield from pool.imap_unordered(job, names)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
