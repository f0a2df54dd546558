"""Making samples of a dataset once more, to see whether they come out as they lie there.

A checksum says that a sample is what was written; only this says that it is what its seed, or the user's own data,
make of it.
"""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError, DamagedSampleError
from data_engine.foreign import OWN
from data_engine.imports.job import KIND as IMPORT_KIND
from data_engine.job import Job
from data_engine.manifest import MANIFEST_NAME, REMEDY
from data_engine.random_stream import Stream
from data_engine.repair import job_of
from data_engine.run import difference
from data_engine.sample import Sample, to_json
from data_engine.shards import Skipped

_SAMPLES = 5


@dataclass(frozen=True)
class Compared:
    """What came of it."""

    samples: int
    """How many were made again and are equal."""
    problem: str = ""
    """Why the others cannot be made here, as a part of a sentence; "" when all could."""


def compare_some(dataset: Dataset, seed: int) -> Compared:
    """Make samples drawn by `seed` again and compare text and images. DamagedSampleError with the first that differs.

    Other versions of libraries, a source or photograph that is gone or has changed, tars of others: then there is
    nothing to compare with, which is no damage.
    """
    if dataset.convention != OWN:
        return Compared(0, "its tars are of others")
    if "plan" not in dataset.manifest:
        return Compared(0, f"its {MANIFEST_NAME} does not say how it was made")
    equal, problem = 0, ""
    try:
        # What an import has to rewrite goes here: nothing is written into a dataset that is looked at.
        with tempfile.TemporaryDirectory() as scratch, job_of(dataset.manifest, Path(scratch)) as job:
            for i in drawn(dataset, seed):
                if found := _compare(dataset, job, i):
                    problem = found
                else:
                    equal += 1
    except ConfigError as error:
        problem = str(error).rstrip(".")
    except OSError as error:
        problem = f"{error.filename or 'its source'} cannot be read ({error.strerror or error})"
    return Compared(equal, problem)


def drawn(dataset: Dataset, seed: int) -> list[int]:
    """Sample numbers, one from each of equal parts of the dataset."""
    stream = Stream(f"verify/{dataset.fingerprint}/{seed}")
    count = min(_SAMPLES, len(dataset))
    ends = [part * len(dataset) // count for part in range(count + 1)]
    return [stream.integer(start, end - 1) for start, end in pairwise(ends)]


def _compare(dataset: Dataset, job: Job, i: int) -> str:
    """Why sample `i` cannot be made again, or "" when it is what it was."""
    stored = dataset.read(i)
    number, shard = dataset.shard_of(i)
    if differs := difference(_configuration(dataset, shard.name), job.configuration(number), "its"):
        return differs
    path = dataset.tars.path(f"{shard.name}.tar")
    index = stored.provenance.get("index")
    if not isinstance(index, int) or index not in job.indices(number):
        problem = f"its provenance says that it was made from number {index}, which is not of this shard"
        raise DamagedSampleError(
            f"sample {stored.key} in {path} is damaged: {problem}; {REMEDY}.", path, stored.key, i, problem
        )
    made = job.sample(number, index)
    if isinstance(made, Skipped):
        return f"{made.reason} ({made.place})"  # mostly a picture that is no longer where or what it was
    if changed_file := _changed_file(made, stored):
        return f"{changed_file} has changed since the dataset was made from it"
    if problem := _differs(made, stored):
        changed = ", or what it was made from has changed" if job.kind == IMPORT_KIND else ""
        raise DamagedSampleError(
            f"sample {stored.key} in {path} is not what it is when it is made again: {problem}{changed}; {REMEDY}.",
            path,
            stored.key,
            i,
            problem,
        )
    return ""


def _changed_file(made: Sample, stored: Sample) -> str:
    """The user's file that a sample was drawn on, where it is another one by its hash now; else ""."""
    file, sha256 = (stored.provenance.get(name) for name in ("file", "file_sha256"))
    same = file is not None and made.provenance.get("file") == file
    what = "the photograph " if stored.provenance.get("ground") == "photograph" else ""
    return f"{what}{file}" if same and made.provenance.get("file_sha256") != sha256 else ""


def _differs(made: Sample, stored: Sample) -> str:
    if made.key != stored.key:
        return f"its key is {made.key} then"
    if to_json(made) != to_json(stored):
        return "its text is another"
    return "" if made.images == stored.images else "its image is another"


def _configuration(dataset: Dataset, name: str) -> object:
    """What the index of a shard says that it follows from."""
    data = dataset.storage.read_whole(f"{name}.npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as index:
        return json.loads(str(index["configuration"]))
