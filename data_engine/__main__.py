"""`python -m data_engine kind=card samples=20000 seed=1 workers=2 out=data/train/card`: see --help."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from data_engine.assets import fetch_assets
from data_engine.command import schema_of
from data_engine.command_line import help_text, run
from data_engine.dataset import DamagedSampleError, open_datasets
from data_engine.errors import ConfigError, in_range, one_of
from data_engine.index_run import SKIPPED_NAME, Wishes, index_dataset
from data_engine.kinds import KINDS
from data_engine.run import Plan, make_dataset, skipped_report
from data_engine.verify import contact_sheet, verify

DESCRIPTION = """\
Makes datasets of images and texts, as WebDataset shards with an index and a manifest.

  python -m data_engine kind=card samples=20000 seed=1 workers=2 out=data/train/card
  python -m data_engine verify=data/train/card
  python -m data_engine index=/data/laion workers=8"""


def options_help() -> str:
    """The options of every kind."""
    parts = []
    for name, kind in KINDS.items():
        summary = (kind.options.__doc__ or "").strip().splitlines()[0]
        text = "\n".join(
            f"  options.{line[2:]}" if line[2:3] != " " else line
            for line in help_text(kind.options).splitlines()
        )
        parts.append(f"Options of kind={name}: {summary}\n\n{text}")
    return "\n\n".join(parts)


def main(command: Any) -> None:
    chosen = [name for name in ("kind", "verify", "index", "assets") if getattr(command, name) is not None]
    if len(chosen) != 1:
        raise ConfigError(
            "give exactly one of kind=KIND, verify=DIR, index=DIR and assets=fetch (see --help)."
        )
    if command.kind is not None:
        make(command)
    elif command.verify is not None:
        check(command.verify, command.sheet)
    elif command.index is not None:
        index(command)
    else:
        one_of("assets", command.assets, ["fetch"])
        print(f"assets are in {fetch_assets(print)}")


def make(command: Any) -> None:
    if command.out is None:
        raise ConfigError("out is required: give out=DIR, the directory to make.")
    in_range("samples", command.samples, 1, 10**9)
    in_range("workers", command.workers, 1, 1024)
    in_range("shard_samples", command.shard_samples, 1, 10**6)
    in_range("seed", command.seed, 0, 2**63 - 1)
    plan = Plan(
        kind=command.kind,
        options=command.options,
        samples=command.samples,
        seed=command.seed,
        shard_samples=command.shard_samples,
        directory=Path(command.out),
        degrade=command.degrade,
    )
    progress = Progress(command.kind)
    outcome = make_dataset(plan, command.workers, progress)
    progress.finish()
    for line in skipped_report(outcome.skipped):
        print(line)
    again = f", {outcome.reused_shards} shards were there already" if outcome.reused_shards else ""
    samples, shards = outcome.manifest["samples"], len(outcome.manifest["shards"])
    print(f"{plan.directory}: {samples} samples in {shards} shards{again}")


def check(directory: str, sheet: str | None) -> None:
    datasets = open_datasets(directory)
    for name, dataset in datasets.items():
        progress = Progress(f"verify {name}")
        verify(dataset, lambda done, samples, progress=progress: progress(done, samples, 0))  # type: ignore[misc]
        progress.finish()
        skipped = sum(dataset.manifest["skipped"].values())
        print(f"{name}: {len(dataset)} samples in {len(dataset.shards)} shards are whole, {skipped} skipped")
    whole = Path(os.path.abspath(directory))
    path = Path(sheet) if sheet is not None else whole.with_name(f"{whole.name}-contact-sheet.png")
    contact_sheet(list(datasets.values()), path)
    print(f"look at {path}")


def index(command: Any) -> None:
    in_range("workers", command.workers, 1, 1024)
    prompt = None if command.prompt is None else command.prompt.replace("\\n", "\n")
    wishes = Wishes(command.layout, prompt, command.response, command.task)
    progress = Progress("index", "tars")
    indexed = index_dataset(command.index, command.out, wishes, command.workers, progress, print)
    progress.finish()
    for line in skipped_report(indexed.skipped):
        print(line)
    if indexed.skipped:
        print(f"all of them: {indexed.directory / SKIPPED_NAME}")
    if indexed.unused:
        unused = ", ".join(f"{count} x .{extension}" for extension, count in sorted(indexed.unused.items()))
        print(f"members that are not used: {unused}")
    samples, shards = indexed.manifest["samples"], len(indexed.manifest["shards"])
    again = f", {indexed.reused_tars} tars were indexed already" if indexed.reused_tars else ""
    print(f"{indexed.directory}: {samples} samples in {shards} shards{again}")


class Progress:
    """A line that renews itself on a terminal; elsewhere a plain line now and then."""

    def __init__(self, kind: str, unit: str = "samples") -> None:
        self._kind = kind
        self._unit = unit
        self._start = time.monotonic()
        self._first: int | None = None
        self._printed = -1e9
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, samples: int, skipped: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done  # what an earlier run made does not count for the rate
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = f", {(samples - done) / rate:.0f} s left" if rate > 0 and done < samples else ""
        dropped = f", {skipped} skipped" if skipped else ""
        line = f"{self._kind}: {done}/{samples} {self._unit}, {rate:.0f}/s{left}{dropped}"
        if self._terminal:
            sys.stderr.write(f"\r{line:<78}")
            sys.stderr.flush()
        elif now - self._printed >= 10 or done == samples:
            sys.stderr.write(f"{line}\n")
            self._printed = now

    def finish(self) -> None:
        if self._terminal:
            sys.stderr.write("\n")


if __name__ == "__main__":
    run(
        main,
        schema_of,
        description=DESCRIPTION,
        details=options_help,
        expected=(DamagedSampleError,),
    )
