"""Which samples a broken step was made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from train.prepare import Prepared
from train.step_report import BrokenStepError

Broken = TypeVar("Broken", bound=BrokenStepError)
NAMED = 3
"""Samples that the sentence names; the file has all of them."""


def with_samples(error: Broken, prepared: Prepared) -> Broken:
    """The error with the samples of its micro-batches named, see `samples_of`."""
    return error.with_samples(samples_of(prepared, error.step, error.what, error.micro_batches))


def samples_of(prepared: Prepared, step: int, what: str, micro_batches: Sequence[tuple[int, int]]) -> str:
    """The samples of these micro-batches, or of the whole step when they are not known, as the end of a sentence.

    Rank 0, which reads data and speaks for all, also writes them to RUN/broken_steps.jsonl, one line for each broken
    step; on the others, nothing happens and the answer is empty.

    Args:
        step: counted from 1.
        micro_batches: (data-parallel rank, micro-batch).
    """
    loader, path = prepared.loader, prepared.run.broken_steps_file
    if loader is None or prepared.world.rank != 0:
        return ""
    ranks, numbers = range(prepared.world.data_parallel_size), range(prepared.config.micro_batches)
    places = micro_batches or [(rank, number) for rank in ranks for number in numbers]
    packs = {
        f"data-parallel rank {rank}, micro-batch {number}": loader.plan.samples_of(step - 1, rank, number)
        for rank, number in places
    }
    samples = [sample for pack in packs.values() for sample in pack]
    shown = ", ".join(samples[:NAMED])
    more = f" and {len(samples) - NAMED} more" if len(samples) > NAMED else ""
    record = {"step": step, "what": what, "samples": packs}
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    except OSError as error:  # the other ranks have none, and this one must go on with them
        return f"; samples {shown}{more} ({path} cannot be written: {error.strerror})"
    return f"; samples {shown}{more} ({path})"
