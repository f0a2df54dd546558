"""What `python -m data_engine` does: makes, imports, indexes, checks, mends and shows datasets."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_engine import command_line
from data_engine.assets import fetch_assets
from data_engine.command import schema_of
from data_engine.command_line import help_text
from data_engine.dataset import DamagedSampleError, open_datasets
from data_engine.degrade_options import DegradeOptions, check_possible
from data_engine.errors import ConfigError, in_range, one_of
from data_engine.executors import EXECUTORS
from data_engine.imports.job import Import, open_import
from data_engine.imports.options import ImportOptions
from data_engine.index_run import Wishes, index_dataset
from data_engine.job import Job
from data_engine.kinds import KINDS
from data_engine.look.page import write_look
from data_engine.ranks import share_of
from data_engine.regenerate import compare_some
from data_engine.repair import repair
from data_engine.run import WHOLE, Plan, make_dataset
from data_engine.skips import SKIPPED_NAME, Skips
from data_engine.verify import contact_sheet, verify

DESCRIPTION = """\
Makes datasets of images and texts, as WebDataset shards with an index and a manifest.

  python -m data_engine kind=card samples=20000 seed=1 workers=2 out=data/train/card
  python -m data_engine import=my_pages.jsonl out=data/train/mine
  python -m data_engine verify=data/train/card
  python -m data_engine look=data/train
  python -m data_engine index=/data/laion workers=8"""
_COMMANDS = ("kind", "import_", "verify", "repair", "look", "index", "assets")


def options_help() -> str:
    """The options of every kind."""
    parts = []
    kinds = {f"kind={name}": kind.options for name, kind in KINDS.items()}
    for name, options in {"import=PATH": ImportOptions, **kinds}.items():
        summary = (options.__doc__ or "").strip().splitlines()[0]
        text = "\n".join(
            f"  options.{line[2:]}" if line[2:3] != " " else line for line in help_text(options).splitlines()
        )
        parts.append(f"Options of {name}: {summary}\n\n{text}")
    return "\n\n".join(parts)


def main(command: Any) -> None:
    chosen = [name for name in _COMMANDS if getattr(command, name) is not None]
    if len(chosen) != 1:
        raise ConfigError(
            "give exactly one of kind=KIND, import=PATH, verify=DIR, repair=DIR, look=DIR, index=DIR and assets=fetch "
            "(see --help)."
        )
    _check_degrade(command)
    in_range("workers", command.workers, 1, 1024)
    one_of("executor", command.executor, EXECUTORS)
    if command.kind is not None:
        make(command)
    elif command.import_ is not None:
        import_own(command)
    elif command.verify is not None:
        check(command.verify, command.sheet, command.seed)
    elif command.repair is not None:
        mend(command)
    elif command.look is not None:
        print(f"look at {write_look(command.look, command.out, command.tokenizer)}")
    elif command.index is not None:
        index(command)
    else:
        one_of("assets", command.assets, ["fetch"])
        print(f"assets are in {fetch_assets(print)}")


def _check_degrade(command: Any) -> None:
    """ConfigError when the command says something of degradation that would be ignored."""
    usual = DegradeOptions()
    given = [name for name in vars(usual) if getattr(command.degrade, name) != getattr(usual, name)]
    if given and command.kind is None:
        raise ConfigError(
            f"degrade.{given[0]} is for the pictures that kind=KIND draws: leave it out, all others stay as they are."
        )
    if given and command.degrade.probability == 0:
        raise ConfigError(
            f"degrade.{given[0]} does nothing while degrade.probability is 0: give degrade.probability=SHARE, or "
            "leave it out."
        )


def make(command: Any) -> None:
    directory = _out(command)
    in_range("samples", command.samples, 1, 10**9)
    in_range("seed", command.seed, 0, 2**63 - 1)
    check_possible(command.kind, command.options, command.degrade)
    plan = Plan(
        kind=command.kind,
        options=command.options,
        samples=command.samples,
        seed=command.seed,
        shard_samples=command.shard_samples,
        directory=directory,
        degrade=command.degrade,
    )
    _make(plan, command)


def import_own(command: Any) -> None:
    wish = Import(
        source=Path(command.import_),
        directory=_out(command),
        options=command.options,
        format=command.format,
        prompt=None if command.prompt is None else command.prompt.replace("\\n", "\n"),
        task=command.task,
        shard_samples=command.shard_samples,
    )
    with open_import(wish, print) as job:
        _make(job, command)


def _out(command: Any) -> Path:
    if command.out is None:
        raise ConfigError("out is required: give out=DIR, the directory to make.")
    in_range("shard_samples", command.shard_samples, 1, 10**6)
    return Path(command.out)


def _make(job: Job, command: Any) -> None:
    share = WHOLE
    if command.executor == "ranks":
        share = share_of(command.rank, command.world, os.environ)
    elif (command.rank, command.world) != (None, None):
        raise ConfigError("rank= and world= are for executor=ranks: add it, or leave them out.")
    progress = Progress(job.kind)
    outcome = make_dataset(job, command.workers, progress, share, EXECUTORS[command.executor])
    progress.finish()
    for line in outcome.skips.report():
        print(line)
    if outcome.skips.reasons and outcome.manifest is not None:
        print(f"all of them: {job.directory / SKIPPED_NAME}")
    again = f", {outcome.reused_shards} shards were there already" if outcome.reused_shards else ""
    if outcome.manifest is None:
        print(f"{job.directory}: the shards of rank {share.rank} of {share.world} are there{again}")
        print(
            f"{outcome.missing_shards} shards of others are not; the run that ends last finishes the dataset"
        )
        return
    samples, shards = outcome.manifest["samples"], len(outcome.manifest["shards"])
    print(f"{job.directory}: {samples} samples in {shards} shards{again}")


def mend(command: Any) -> None:
    progress = {step: Progress(step, "shards") for step in ("check", "make")}
    directory = Path(command.repair)

    def tell(step: str, done: int, shards: int) -> None:
        progress[step](done, shards)

    bad = repair(directory, command.workers, tell, EXECUTORS[command.executor])
    for problem in bad.values():
        print(f"made again: {problem}")
    print(f"{directory}: {'all shards are whole' if not bad else f'{len(bad)} shards were made again'}")


def check(directory: str, sheet: str | None, seed: int) -> None:
    datasets = open_datasets(directory)
    for name, dataset in datasets.items():
        progress = Progress(f"verify {name}")
        verify(dataset, progress)
        progress.finish()
        skipped = sum(dataset.manifest["skipped"].values())
        print(f"{name}: {len(dataset)} samples in {len(dataset.shards)} shards are whole, {skipped} skipped")
        start = time.monotonic()
        compared = compare_some(dataset, seed)
        if compared.samples:
            print(f"{name}: {compared.samples} made again in {time.monotonic() - start:.1f} s are equal")
        if compared.problem:
            print(
                f"{name}: {'not all' if compared.samples else 'none'} could be made again here: {compared.problem}"
            )
    whole = Path(os.path.abspath(directory))
    path = Path(sheet) if sheet is not None else whole.with_name(f"{whole.name}-contact-sheet.png")
    contact_sheet(list(datasets.values()), path)
    print(f"look at {path}")


def index(command: Any) -> None:
    prompt = None if command.prompt is None else command.prompt.replace("\\n", "\n")
    wishes = Wishes(command.layout, prompt, command.response, command.task)
    progress = Progress("index", "tars")
    indexed = index_dataset(command.index, command.out, wishes, command.workers, progress, print)
    progress.finish()
    for line in Skips(indexed.skipped).report():
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

    def __call__(self, done: int, samples: int, skipped: Mapping[str, int] = MappingProxyType({})) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done  # what an earlier run made does not count for the rate
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = f", {_duration((samples - done) / rate)} left" if rate > 0 and done < samples else ""
        line = f"{self._kind}: {done}/{samples} {self._unit}, {rate:.0f}/s{left}{_dropped(skipped)}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be renewed
            sys.stderr.write(f"\r{line[:width]:<{width}}")
            sys.stderr.flush()
        elif now - self._printed >= 10 or done == samples:
            sys.stderr.write(f"{line}\n")
            self._printed = now

    def finish(self) -> None:
        if self._terminal:
            sys.stderr.write("\n")


def _dropped(skipped: Mapping[str, int]) -> str:
    """How many are missing, and the two most common reasons."""
    if not skipped:
        return ""
    reasons = Counter(skipped)
    named = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(2))
    return f", {reasons.total()} skipped ({named}{', ...' if len(reasons) > 2 else ''})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def start() -> None:
    """The command line: never returns."""
    command_line.run(
        main,
        schema_of,
        description=DESCRIPTION,
        details=options_help,
        expected=(DamagedSampleError,),
    )
