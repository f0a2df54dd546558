"""Making a dataset: shards are pure functions of the command, so any process may make any of them.

`make_shard(plan, number)` is the unit of work; `make_dataset` deals the numbers to a local pool. An interrupted
run leaves whole shards only; the same command again makes the missing ones.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_engine import ENGINE_VERSION
from data_engine.document_options import DegradeOptions
from data_engine.errors import ConfigError
from data_engine.files import remove_temporaries
from data_engine.kinds import kind_named, make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Renderer
from data_engine.sample import Sample
from data_engine.shards import (
    MANIFEST_NAME,
    FinishedShard,
    Skipped,
    canonical_json,
    find_finished,
    write_manifest,
    write_shard,
)


@dataclass(frozen=True)
class Plan:
    """All that a dataset follows from, and where it goes."""

    kind: str
    options: Any
    """The options dataclass of the kind."""
    samples: int
    seed: int
    shard_samples: int
    directory: Path
    degrade: DegradeOptions = field(default_factory=DegradeOptions)
    """What happens to the pictures after they are drawn; nothing by default."""

    @property
    def shards(self) -> int:
        return -(-self.samples // self.shard_samples)

    def shard_name(self, number: int) -> str:
        return f"{self.kind}-{number:06d}"

    def indices(self, number: int) -> range:
        """The sample indices of a shard."""
        start = number * self.shard_samples
        return range(start, min(start + self.shard_samples, self.samples))

    def configuration(self, number: int, versions: dict[str, str]) -> dict[str, Any]:
        """All that decides the content of one shard, and nothing else (no path, no worker count)."""
        indices = self.indices(number)
        return {
            "engine_version": ENGINE_VERSION,
            "kind": self.kind,
            "seed": self.seed,
            "options": self.all_options(),
            "indices": [indices.start, indices.stop],
            "versions": versions,
        }

    def all_options(self) -> dict[str, Any]:
        """The options of the kind, and under "degrade" those of the degradation where there is one."""
        degradation = {"degrade": asdict(self.degrade)} if self.degrade.probability > 0 else {}
        return {**asdict(self.options), **degradation}

    def renderer(self) -> Renderer:
        """Makes the samples. ConfigError when what it needs (a font, a file) is missing."""
        renderer = make_renderer(self.kind, self.options)
        if self.degrade.probability > 0:
            from data_engine.render.degrade import DegradingRenderer

            return DegradingRenderer(renderer, self.degrade)
        return renderer


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    manifest: dict[str, Any]
    skipped: list[Skipped]
    reused_shards: int


def make_dataset(plan: Plan, workers: int, progress: Callable[[int, int, int], None]) -> Outcome:
    """Make, or finish, the dataset of a plan. `progress(samples done, samples in all, skipped)` is called per shard.

    Raises ConfigError when the target holds a finished dataset or shards of another configuration, and OSError
    as the file system reports it; no half shard is left.
    """
    renderer = plan.renderer()  # here already, so that a missing asset is one sentence
    versions = renderer.versions()
    renderer.close()
    _prepare(plan.directory)
    finished = _finished_shards(plan, versions)
    missing = [number for number in range(plan.shards) if number not in finished]
    reused = len(finished)
    done = sum(len(plan.indices(number)) for number in finished)
    dropped = sum(len(shard.skipped) for shard in finished.values())
    progress(done, plan.samples, dropped)
    try:
        for number, shard in _make_shards(plan, missing, workers):
            finished[number] = shard
            done += len(plan.indices(number))
            dropped += len(shard.skipped)
            progress(done, plan.samples, dropped)
    finally:
        remove_temporaries(plan.directory)
    skipped = [skip for number in range(plan.shards) for skip in finished[number].skipped]
    records = [finished[number].record for number in range(plan.shards)]
    if not any(record.samples for record in records):
        raise ConfigError(f"no sample could be made: all {plan.samples} were skipped ({skipped[0].reason}).")
    manifest = write_manifest(
        plan.directory,
        kind=plan.kind,
        seed=plan.seed,
        shards=records,
        skipped=skipped,
        options=plan.all_options(),
        versions={"engine": str(ENGINE_VERSION), **versions},
    )
    return Outcome(manifest, skipped, reused)


def make_shard(plan: Plan, number: int) -> FinishedShard:
    """Make one shard: the same bytes from the same plan and number, in any process, in any order."""
    renderer = _renderer_of_this_process(plan)
    configuration = plan.configuration(number, renderer.versions())
    skipped: list[Skipped] = []

    def samples() -> Iterator[Sample | Skipped]:
        for index in plan.indices(number):
            sample = make_sample(renderer, plan.kind, plan.seed, index)
            if isinstance(sample, Skipped):
                skipped.append(sample)
            yield sample

    record = write_shard(plan.directory, plan.shard_name(number), samples(), configuration)
    return FinishedShard(record, configuration, skipped)


def make_sample(renderer: Renderer, kind: str, seed: int, index: int) -> Sample | Skipped:
    """The sample of one index, or why there is none."""
    try:
        rendered = renderer.render(Draws(seed, kind, index))
    except NoSampleError as error:
        return Skipped(index, error.reason, error.place)
    return Sample(
        key=f"{kind}-{index:09d}",
        images=tuple(picture.data for picture in rendered.pictures),
        image_formats=tuple(picture.format for picture in rendered.pictures),
        image_sizes=tuple((picture.width, picture.height) for picture in rendered.pictures),
        prompt=rendered.prompt,
        response=rendered.response,
        task=kind,
        provenance={
            "seed": seed,
            "kind": kind,
            "index": index,
            "engine_version": ENGINE_VERSION,
            "renderer": rendered.renderer,
            **rendered.details,
        },
    )


def _prepare(directory: Path) -> None:
    if (directory / MANIFEST_NAME).exists():
        raise ConfigError(
            f"{directory} already holds a finished dataset: give another out=DIR, or remove it first."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"out={directory} cannot be made a directory: {error.strerror}.") from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"out={directory} cannot be written to: change its permissions or give another.")
    remove_temporaries(directory)


def _finished_shards(plan: Plan, versions: dict[str, str]) -> dict[int, FinishedShard]:
    """The shards that need not be made again. ConfigError when the directory is another plan's."""
    found: dict[int, FinishedShard] = {}
    expected = {plan.shard_name(number): number for number in range(plan.shards)}
    for path in sorted(plan.directory.glob("*.npz")):
        shard = find_finished(plan.directory, path.stem)
        if shard is None:
            continue
        number = expected.get(path.stem)
        difference = (
            f"{path.stem} is not among its shards"
            if number is None
            else _difference(shard.configuration, plan.configuration(number, versions), "")
        )
        if number is None or difference:
            raise ConfigError(
                f"{plan.directory} holds shards of another command ({difference}): give another out=DIR, or the "
                "same command to finish them."
            )
        found[number] = shard
    return found


def _difference(there: Any, here: Any, key: str) -> str:
    """The first place where two configurations differ, for people; "" when they are equal."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(set(there) | set(here)):
            inner = f"{key}.{name}" if key else name
            if found := _difference(there.get(name), here.get(name), inner):
                return found
        return ""
    there_json, here_json = canonical_json(there), canonical_json(json.loads(canonical_json(here)))
    return "" if there_json == here_json else f"{key} is {there_json} there and {here_json} here"


def _make_shards(plan: Plan, numbers: list[int], workers: int) -> Iterator[tuple[int, FinishedShard]]:
    """Shards as they get done, in any order; in this process when one worker is asked for."""
    if workers == 1 or len(numbers) <= 1:
        for number in numbers:
            yield number, make_shard(plan, number)
        return
    # Spawn, not fork: V8 keeps threads, and a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(min(workers, len(numbers)), initializer=_start_worker)
    try:
        yield from pool.imap_unordered(_ShardOf(plan), numbers)
        pool.close()
    except BaseException:
        pool.terminate()
        raise
    finally:
        pool.join()


@dataclass(frozen=True)
class _ShardOf:
    """`make_shard` with its plan, as an object that can be sent to a worker."""

    plan: Plan

    def __call__(self, number: int) -> tuple[int, FinishedShard]:
        return number, make_shard(self.plan, number)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers


_renderer: tuple[str, Renderer] | None = None


def _renderer_of_this_process(plan: Plan) -> Renderer:
    """The renderer, made once per process: a JavaScript engine takes its time to start and to warm up."""
    global _renderer
    identity = canonical_json([plan.kind, plan.all_options()])
    if _renderer is None or _renderer[0] != identity:
        close_renderer()
        _renderer = (identity, plan.renderer())
    return _renderer[1]


@atexit.register
def close_renderer() -> None:
    """Close what this process holds. V8 must be closed by hand: left to the interpreter's exit it may hang."""
    global _renderer
    if _renderer is not None:
        _renderer[1].close()
        _renderer = None


def options_of(kind: str) -> type:
    """The options dataclass of a kind."""
    return kind_named(kind).options


def skipped_report(skipped: Iterable[Skipped], limit: int = 5) -> list[str]:
    """Lines that tell which samples are missing and why, at most `limit` per reason."""
    by_reason: dict[str, list[Skipped]] = {}
    for skip in skipped:
        by_reason.setdefault(skip.reason, []).append(skip)
    lines = []
    for reason, group in sorted(by_reason.items()):
        lines.append(f"skipped {len(group)}: {reason}")
        lines.extend(f"  sample {skip.index}: {skip.place}" for skip in group[:limit])
        if len(group) > limit:
            lines.append(f"  and {len(group) - limit} more")
    return lines
