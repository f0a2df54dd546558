"""The loader: one stream whatever the layout, exact resume, and errors that say which sample."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import SMALL_MODES, MemoryDataset, cards, make_sample, pages, texts

from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from model.views import MODES
from train.data.loader import HeldOutLoader, PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import (
    HEADER,
    HEADER_CHECKSUM,
    HEADER_LABELLED,
    HEADER_SAMPLES,
    LABEL,
    SEGMENT,
    MicroBatch,
    MicroBatchShape,
)
from train.data.mixture import Mixture, Phase

SHAPE = MicroBatchShape(tokens=200, patches=800, views=16, vision_tokens=50)
MIXTURE = Mixture.of({"card": 5, "page": 2, "text": 3}, window=40)


def datasets() -> dict[str, MemoryDataset]:
    return {"card": cards(60), "page": pages(15), "text": texts(20)}


def loader_settings(
    micro_batches: int = 4, size: int = 1, rank: int = 0, prefetch: int = 0, shape: MicroBatchShape = SHAPE
) -> LoaderSettings:
    return LoaderSettings(
        modes=SMALL_MODES,
        shape=shape,
        micro_batches_per_step=micro_batches,
        data_parallel_size=size,
        data_parallel_rank=rank,
        prefetch=prefetch,
    )


def loader(
    tokenizer: Tokenizer, micro_batches: int = 4, size: int = 1, rank: int = 0, prefetch: int = 0
) -> PackedLoader:
    return PackedLoader(
        datasets(), tokenizer, loader_settings(micro_batches, size, rank, prefetch), MIXTURE, seed=9
    )


def checksum(batch: MicroBatch) -> int:
    return int(batch.metadata[HEADER, HEADER_CHECKSUM]) & 0xFFFFFFFF


def equal(one: MicroBatch, other: MicroBatch) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_every_data_parallel_size_sees_the_same_global_batches(tokenizer: Tokenizer) -> None:
    alone = loader(tokenizer, micro_batches=4)
    for size in (2, 4):
        ranks = [loader(tokenizer, 4 // size, size, rank) for rank in range(size)]
        for step in range(3):
            expected = list(alone.step_batches(step))
            batches = [list(rank.step_batches(step)) for rank in ranks]
            dealt = {checksum(batch): batch for mine in batches for batch in mine}
            assert len(dealt) == len(expected) == 4
            for one in expected:
                other = dealt[checksum(one)]
                assert torch.equal(one.pixels, other.pixels) and torch.equal(one.tiles, other.tiles)
                assert torch.equal(one.metadata[:HEADER], other.metadata[:HEADER])
                for place in (HEADER_LABELLED, HEADER_CHECKSUM, HEADER_SAMPLES):
                    assert one.metadata[HEADER, place] == other.metadata[HEADER, place]
            assert all(rank.plan.identities(step) == alone.plan.identities(step) for rank in ranks)
            assert all(rank.plan.checksum(step) == alone.plan.checksum(step) for rank in ranks)
        assert alone.plan.checksum(0) != alone.plan.checksum(1)


def test_the_header_tells_of_the_whole_step(tokenizer: Tokenizer) -> None:
    ranks = [loader(tokenizer, 2, 2, rank) for rank in range(2)]
    for step in (0, 3):
        batches = {rank: list(ranks[rank].step_batches(step)) for rank in range(2)}
        labelled = sum(
            int((batch.metadata[LABEL] != -100).sum()) for mine in batches.values() for batch in mine
        )
        summary = ranks[0].plan.summary(step)
        identities = ranks[0].plan.identities(step)
        filled = sum(int((batch.metadata[SEGMENT] > 0).sum()) for mine in batches.values() for batch in mine)
        assert summary == ranks[1].plan.summary(step)
        assert summary.labelled_tokens == labelled and summary.tokens == filled
        assert summary.pack_fill == pytest.approx(filled / (4 * SHAPE.tokens))
        assert summary.samples == sum(map(len, identities))
        packs = {zlib.crc32("\n".join(names).encode()): names for names in identities}
        for rank, mine in batches.items():
            for number, batch in enumerate(mine):
                names = packs.pop(checksum(batch))
                header = batch.metadata[HEADER]
                assert header[:4].tolist() == [labelled, step, number, rank]
                assert header[HEADER_SAMPLES] == len(names) == batch.metadata[SEGMENT].max()


def test_every_sample_once_per_epoch(tokenizer: Tokenizer) -> None:
    everything = loader(tokenizer)
    seen: Counter[str] = Counter()
    step = 0
    while everything.plan.summary(step).window < 6:  # 240 draws: 120 cards (2 epochs), 48 pages, 72 texts
        seen.update(name for pack in everything.plan.identities(step) for name in pack)
        step += 1
    for name, size, uses in (("card", 60, 120), ("page", 15, 48), ("text", 20, 72)):
        for i in range(size):
            # The last step reaches a little into window 6.
            assert uses // size <= seen[f"{name}/{i}"] <= uses // size + 2
    assert everything.plan.summary(step).epochs["card"] >= 2


@settings(deadline=None, max_examples=4)
@given(step=st.integers(0, 12), prefetch=st.integers(0, 2))
def test_resuming_equals_going_on(tokenizer: Tokenizer, step: int, prefetch: int) -> None:
    uninterrupted = loader(tokenizer, 2, 2, 1)
    state = uninterrupted.state(step)
    resumed = loader(tokenizer, 2, 2, 1, prefetch)
    resumed.check_state(state)
    for later in (step, step + 1):
        for one, other in zip(uninterrupted.step_batches(later), resumed.step_batches(later), strict=True):
            assert equal(one, other)
    assert resumed.state(step + 1) == uninterrupted.state(step + 1)
    resumed.close()


def test_resuming_reads_nothing_of_what_was_consumed(tokenizer: Tokenizer) -> None:
    state = loader(tokenizer).state(30)
    data = datasets()
    resumed = PackedLoader(data, tokenizer, loader_settings(), MIXTURE, seed=9)
    resumed.check_state(state)
    list(resumed.step_batches(30))
    assert sum(dataset.texts_read for dataset in data.values()) <= 2 * MIXTURE.window


def test_prefetching_changes_nothing(tokenizer: Tokenizer) -> None:
    plain, ahead = loader(tokenizer), loader(tokenizer, prefetch=2)
    for step in (0, 1, 2, 7, 3):  # forwards, a jump, and back
        for one, other in zip(plain.step_batches(step), ahead.step_batches(step), strict=True):
            assert equal(one, other)
    next(iter(ahead.step_batches(5)))  # left half-way
    assert equal(next(iter(plain.step_batches(6))), next(iter(ahead.step_batches(6))))
    assert ahead.data_wait_seconds > 0
    ahead.close()


def test_text_only_data(tokenizer: Tokenizer) -> None:
    only = PackedLoader({"text": texts(20)}, tokenizer, loader_settings(2), Mixture(window=20), seed=1)
    for batch in only.step_batches(0):
        assert not batch.tiles.any() and not batch.pixels.any()
        assert (batch.metadata[1] == -1).all() and batch.metadata[SEGMENT].any()


def test_held_out_data_is_seen_once(tokenizer: Tokenizer) -> None:
    ranks = [HeldOutLoader(datasets(), tokenizer, loader_settings(3, 2, rank)) for rank in range(2)]
    assert ranks[0].steps == ranks[1].steps > 1
    seen: Counter[str] = Counter()
    samples = 0
    for step in range(ranks[0].steps):
        seen.update(name for pack in ranks[0].plan.identities(step) for name in pack)
        for rank in ranks:
            batches = list(rank.step_batches(step))
            assert len(batches) == 3
            samples += sum(int(batch.metadata[HEADER, HEADER_SAMPLES]) for batch in batches)
            assert all(batch.metadata[HEADER, HEADER_LABELLED] > 0 for batch in batches)
    assert len(seen) == samples == 95 and set(seen.values()) == {1}
    with pytest.raises(IndexError, match="the held-out data ends after"):
        next(iter(ranks[0].step_batches(ranks[0].steps)))


def test_held_out_data_of_which_nothing_fits_is_refused(tokenizer: Tokenizer) -> None:
    long = MemoryDataset("text", [make_sample("long", "text", [], "words " * 500)])
    with pytest.raises(ConfigError, match="none of the held-out samples of text fits"):
        HeldOutLoader({"text": long}, tokenizer, loader_settings(1))


def test_impossible_layouts_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="rank 2 is outside"):
        loader(tokenizer, 1, 2, 2)
    with pytest.raises(ConfigError, match="micro_batches is 0"):
        loader(tokenizer, 0)
    with pytest.raises(ConfigError, match="one image of mode small_gundam"):
        loader_settings(shape=MicroBatchShape(64, 16, 1, 1))
    late = Mixture((Phase(until_sample=40), Phase(modes={"default": MODES["gundam"]})), window=40)
    with pytest.raises(ConfigError, match="one image of mode gundam"):
        PackedLoader(datasets(), tokenizer, loader_settings(), late, seed=1)
    with pytest.raises(ConfigError, match="set prefetch to at least 1"):
        replace(loader_settings(), workers=2)


def test_with_a_gpu_micro_batches_are_page_locked(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, locked = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor) or tensor)
    ahead = loader(tokenizer, prefetch=1)
    batch = next(iter(ahead.step_batches(0)))
    ahead.close()
    assert devices == [3], "the thread works for the device of the one who asks"
    assert len(locked) >= 3 and all(any(tensor is one for one in locked) for tensor in batch)
