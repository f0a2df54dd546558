"""The stream of global batches depends on the seed and the data alone: not on the layout, not on stops."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import SMALL_MODES, cards, pages, texts

from model.tokenizer import Tokenizer
from model.views import ResolutionMode
from train.data.block_order import GLOBAL_ORDER, SampleOrder
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import HEADER, HEADER_CHECKSUM, MicroBatchShape
from train.data.mixture import Mixture, Phase
from train.data.modes import ModeShares

SHAPE = MicroBatchShape(tokens=200, patches=800, views=16, vision_tokens=50)
MIXTURE = Mixture(
    (Phase({"pictures": 7, "text": 3}, 80), Phase({"pictures": 2, "text": 1})),
    40,
    {"pictures": {"card": 3, "page": 1}},
)
MODES = {
    "default": ModeShares(
        (*SMALL_MODES.values(), ResolutionMode("small_base", 128, 128, crop=False)), (500, 250, 250)
    )
}

orders = st.sampled_from([GLOBAL_ORDER, SampleOrder("block", 7, 2)])


def make_loader(tokenizer: Tokenizer, size: int = 1, rank: int = 0, **changes: Any) -> PackedLoader:
    data = {"card": cards(60), "page": pages(15), "text": texts(20)}
    order, seed = changes.pop("order", GLOBAL_ORDER), changes.pop("seed", 3)
    loader_settings = LoaderSettings(
        modes=MODES,
        shape=SHAPE,
        micro_batches_per_step=4 // size,
        data_parallel_size=size,
        data_parallel_rank=rank,
        too_long="split",
        **({"prefetch": 0} | changes),
    )
    return PackedLoader(data, tokenizer, loader_settings, MIXTURE, seed, order)


def checksums(loaders: list[PackedLoader], step: int) -> list[int]:
    """Of all micro-batches of a step, over all ranks."""
    return sorted(
        int(batch.metadata[HEADER, HEADER_CHECKSUM])
        for loader in loaders
        for batch in loader.step_batches(step)
    )


@settings(deadline=None, max_examples=4)
@given(orders, st.integers(0, 100), st.integers(0, 9), st.sampled_from([2, 4]), st.sampled_from([1, 2, 4]))
def test_a_stop_at_any_step_and_another_layout_change_nothing(
    tokenizer: Tokenizer, order: SampleOrder, seed: int, stop: int, size_before: int, size_after: int
) -> None:
    options = {"order": order, "seed": seed}
    alone = make_loader(tokenizer, **options)
    before = make_loader(tokenizer, size_before, size_before - 1, **options)
    after = [make_loader(tokenizer, size_after, rank, **options) for rank in range(size_after)]
    for loader in after:
        loader.check_state(before.state(stop))
    for step in (stop, stop + 2):
        assert len({loader.plan.checksum(step) for loader in (alone, before, *after)}) == 1
        assert checksums(after, step) == checksums([alone], step)
    assert after[0].state(stop + 3) == alone.state(stop + 3)


@settings(deadline=None, max_examples=4)
@given(orders, st.integers(0, 100))
def test_every_sample_comes_once_per_epoch(tokenizer: Tokenizer, order: SampleOrder, seed: int) -> None:
    stream = make_loader(tokenizer, order=order, seed=seed).stream
    windows = 8
    seen: Counter[tuple[str, int]] = Counter()
    number = 0
    while (pack := stream.pack(number)) is not None and pack.window < windows:
        whole = pack.parts == 0
        names = (stream.draws.names[source] for source in pack.source[whole].tolist())
        seen.update(zip(names, pack.sample[whole].tolist(), strict=True))
        number += 1
    epochs = stream.draws.epochs(windows)
    for name, size in (("card", 60), ("page", 15), ("text", 20)):
        counts = [seen[name, sample] for sample in range(size)]
        assert sum(counts) == round(epochs[name] * size)
        assert set(counts) <= {int(epochs[name]), int(epochs[name]) + 1}
