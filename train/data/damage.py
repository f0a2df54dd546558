"""Damage: samples that cannot be used, what a run does about them, and the record that it keeps.

Damaged is a sample whose bytes are not what was written, whose image cannot be decoded or has another size than the
index says, whose prompt does not fit its images, or whose text is not as long as it was planned.

What is special here:
- `stop` (the default) ends the run before the step that would use the sample. `blank` leaves the sample out of its
  pack: the other samples move up, and the end of the sequence stays padding, which has no label on any stage, since
  labels travel with the micro-batch. Nothing is drawn in its place, so the stream of samples stays what it was.
- The loss is divided by the labelled tokens of the *plan*, which every rank knows. A blank only makes the sum
  smaller: the step weighs its other tokens as if nothing had happened, and every pipeline cut gives the same loss.
- RUN/quarantine-rankN.jsonl has one line per damaged sample, written and flushed when training meets it and not when
  it is read ahead, by data-parallel rank N alone. A resumed run finds the same samples and writes none twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_engine.dataset import DamagedSampleError
from data_engine.errors import ConfigError
from train.data.reader import SampleReader

STOP, BLANK = "stop", "blank"
POLICIES = (STOP, BLANK)

UNUSABLE = (DamagedSampleError, ValueError, OSError)
"""What reading and building a sample raise when it cannot be used; anything else is a mistake in the program."""


class DamagedDataError(Exception):
    """The data holds what the run was told not to train past. The message is one sentence for the user."""


class Damage(NamedTuple):
    """One sample that cannot be used."""

    dataset: str
    sample: int
    """Number in the dataset."""
    shard: str
    """Name of its file; empty when the dataset does not say."""
    key: str
    reason: str
    """A sentence that names the sample and what is wrong with it."""

    @property
    def identity(self) -> str:
        """The sample as "dataset/number"."""
        return f"{self.dataset}/{self.sample}"

    def as_error(self) -> DamagedDataError:
        """What ends a run whose policy is to stop."""
        return DamagedDataError(
            f"{self.reason.rstrip('.')}; make or copy that data again, or train past it with damage.policy={BLANK}."
        )


def damage_of(dataset: SampleReader, sample: int, error: Exception) -> Damage:
    """What is known about a sample that could not be used."""
    key = dataset.key(sample)
    if isinstance(error, DamagedSampleError):
        # Its own sentence ends with a remedy, and `as_error` has another one to offer.
        reason = f"sample {key} in {error.shard} is damaged: {error.reason}" if error.shard else str(error)
        return Damage(dataset.name, sample, error.shard or "", key, reason)
    reason = f"sample {key} ({dataset.name}/{sample}) cannot be used: {error}"
    return Damage(dataset.name, sample, "", key, reason)


@dataclass
class DamagePolicy:
    """What a run does when a sample cannot be used."""

    policy: str = STOP
    """`stop`: end before the step that would use it. `blank`: leave it out of its pack and record it."""
    budget: int = 100
    """`blank`: the run stops when more different samples than this were left out, over all ranks and resumes."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"damage.policy={self.policy} is unknown; choose one of {', '.join(POLICIES)}.")
        if self.budget < 0:
            raise ConfigError(f"damage.budget={self.budget} must be 0 or more samples.")


class Quarantine:
    """The damaged samples that one data-parallel rank has met, in a file that only it writes.

    Lines of all ranks are read at the start, so a resumed run, with another number of ranks too, writes each sample
    once and keeps counting where it was.
    """

    def __init__(self, run: str | os.PathLike[str], rank: int) -> None:
        directory = Path(run)
        self._path = directory / f"quarantine-rank{rank}.jsonl"
        self._known = {
            identity for path in sorted(directory.glob("quarantine-rank*.jsonl")) for identity in _read(path)
        }
        self.before = len(self._known)
        """Samples that the run had recorded when this process started; the same on every rank."""
        self.added = 0
        """Samples that this rank has recorded since."""

    def add(self, step: int, damages: Iterable[Damage]) -> list[Damage]:
        """Record samples met in this step; returns those that were not known. Durable when it returns."""
        new = []
        for damage in damages:
            if damage.identity not in self._known:
                self._known.add(damage.identity)
                new.append(damage)
        if new:
            lines = [json.dumps({"step": step, **damage._asdict()}, ensure_ascii=False) for damage in new]
            self._append(lines)
            self.added += len(new)
        return new

    def _append(self, lines: list[str]) -> None:
        with open(self._path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # the half line of a run that was killed
            for line in lines:
                file.write(line.encode("utf-8") + b"\n")
                file.flush()
                os.fsync(file.fileno())


def _read(path: Path) -> Iterable[str]:
    """Identities of the whole lines of a quarantine file."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            yield f"{record['dataset']}/{record['sample']}"
        except (ValueError, KeyError, TypeError):
            continue
