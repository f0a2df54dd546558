"""Which samples a broken step was made of."""

from __future__ import annotations

from data_engine.files import atomic_write_json
from train.guard import NonFiniteError
from train.prepare import Prepared

NAMED = 3
"""Samples that the sentence names; the file has all of them."""


def with_samples(error: NonFiniteError, prepared: Prepared) -> NonFiniteError:
    """The error with the samples of its micro-batches, or of the whole step when those are not known.

    Rank 0, which reads data and speaks for all, also writes them to RUN/non_finite.json.
    """
    loader, run = prepared.loader, prepared.run
    if loader is None or prepared.world.rank != 0:
        return error
    step = error.step - 1
    ranks, numbers = range(prepared.world.data_parallel_size), range(prepared.config.micro_batches)
    places = error.micro_batches or [(rank, number) for rank in ranks for number in numbers]
    packs = {
        f"data-parallel rank {rank}, micro-batch {number}": loader.plan.samples_of(step, rank, number)
        for rank, number in places
    }
    samples = [sample for pack in packs.values() for sample in pack]
    path = run.path / "non_finite.json"
    atomic_write_json(path, {"step": error.step, "what": error.what, "samples": packs})
    shown = ", ".join(samples[:NAMED])
    more = f" and {len(samples) - NAMED} more" if len(samples) > NAMED else ""
    return error.with_samples(f"; samples {shown}{more} ({path})")
