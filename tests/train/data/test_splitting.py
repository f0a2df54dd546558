"""Long texts become several samples that lose no token and no target."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import NANO_MODES, MemoryDataset, cards, make_sample

from model.sequence import build_sequence
from model.tokenizer import Tokenizer
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import LABEL, POSITION, SEGMENT, TOKEN_IDS, MicroBatchShape
from train.data.mixture import Mixture

SHAPE = MicroBatchShape(tokens=120, patches=3000, views=24, vision_tokens=200)


def library() -> MemoryDataset:
    texts = [make_sample(f"text-{i}", "text", [], "some words of it " * (4 + 11 * i)) for i in range(8)]
    prompted = make_sample("prompted", "text", [], "an answer " * 60)
    prompted = type(prompted)(**{**prompted.__dict__, "prompt": "a question " * 30})
    return MemoryDataset("text", [*texts, prompted])


def loader_settings(too_long: str, micro_batches: int = 1) -> LoaderSettings:
    return LoaderSettings(
        modes=NANO_MODES,
        shape=SHAPE,
        micro_batches_per_step=micro_batches,
        prefetch=0,
        too_long=too_long,
    )


def make_loader(tokenizer: Tokenizer, too_long: str) -> PackedLoader:
    data = {"card": cards(5), "text": library()}
    mixture = Mixture.of({"card": 5, "text": 9}, window=14)
    return PackedLoader(data, tokenizer, loader_settings(too_long), mixture, seed=1)


def test_all_stretches_together_are_the_text(tokenizer: Tokenizer) -> None:
    loader = make_loader(tokenizer, "split")
    rows: dict[str, np.ndarray] = {}
    for step in range(len(loader.stream.plan(0).packs)):
        (names,) = loader.plan.identities(step)
        (batch,) = loader.step_batches(step)
        metadata = batch.metadata.numpy()
        for segment, name in enumerate(names, start=1):
            assert name not in rows
            rows[name] = metadata[:, metadata[SEGMENT] == segment]
            assert rows[name][POSITION].tolist() == list(range(rows[name].shape[1]))
    for i, sample in enumerate(library().samples):
        whole = build_sequence(tokenizer, sample.prompt, [], sample.response)
        stretches = -(-len(whole) // SHAPE.tokens)
        parts = [rows[f"text/{i}{f'+{part}' if part else ''}"] for part in range(stretches)]
        assert f"text/{i}+{stretches}" not in rows
        assert np.array_equal(np.concatenate([part[TOKEN_IDS] for part in parts]), whole.input_ids)
        assert np.array_equal(np.concatenate([part[LABEL] for part in parts]), whole.labels)
    assert any("+" in name for name in rows)
    plan = loader.stream.plan(0)
    assert plan.costs.labelled.sum() == sum((part[LABEL] != -100).sum() for part in rows.values())


def test_without_splitting_they_are_dropped(tokenizer: Tokenizer) -> None:
    plan = make_loader(tokenizer, "drop").stream.plan(0)
    assert len(plan.dropped) and (plan.costs.budgets[plan.dropped, 0] > SHAPE.tokens).all()
    assert not make_loader(tokenizer, "split").stream.plan(0).dropped.size


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 6))
def test_both_ranks_see_every_stretch_once(tokenizer: Tokenizer, seed: int) -> None:
    data = {"card": cards(5), "text": library()}
    two_ranks = replace(loader_settings("split", 2), data_parallel_size=2)
    loader = PackedLoader(data, tokenizer, two_ranks, Mixture(window=14), seed)
    packs = [loader.stream.pack(number) for number in range(len(loader.stream.plan(0).packs))]
    seen = Counter(
        key
        for pack in packs
        if pack is not None
        for key in zip(pack.source.tolist(), pack.sample.tolist(), pack.parts.tolist(), strict=True)
    )
    assert set(seen.values()) == {1}
    assert all(pack is not None and pack.budgets[0] <= SHAPE.tokens for pack in packs)
