"""What is in the tensors is what the model's own functions say, byte for byte and id for id."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_samples import NANO_MODES, cards, make_sample, pages, texts

from data_engine.errors import ConfigError
from data_engine.sample import Sample
from model.layout import NEWLINE, SEPARATOR, image_layout
from model.sequence import build_sequence
from model.tokenizer import Tokenizer
from model.views import MODES, ResolutionMode, make_views, open_image
from train.data.filling import MicroBatchFilling, PackedSample
from train.data.kinds import TEXT, kind_number
from train.data.micro_batch import (
    HEADER,
    HEADER_CHECKSUM,
    HEADER_LENGTH,
    LABEL,
    POSITION,
    SEGMENT,
    TOKEN_IDS,
    VISION_INDEX,
    Header,
    MicroBatch,
    MicroBatchShape,
    largest_image,
)

SHAPE = MicroBatchShape(tokens=900, patches=6000, views=80, vision_tokens=400)
EVERY_SAMPLE = [*cards(8).samples, *pages(8).samples, *texts(4).samples]


def mode_of(sample: Sample) -> ResolutionMode:
    return NANO_MODES.get(sample.task, NANO_MODES["default"])


def build(tokenizer: Tokenizer, samples: list[Sample], shape: MicroBatchShape = SHAPE) -> MicroBatch:
    filling = MicroBatchFilling(tokenizer, shape)
    for sample in samples:
        filling.add(PackedSample(f"all/{sample.key}", sample, mode_of(sample)))
    return filling.finish(Header(77, 5, 2, 1))


@settings(deadline=None, max_examples=25)
@given(chosen=st.lists(st.sampled_from(range(len(EVERY_SAMPLE))), max_size=5))
def test_a_pack_holds_its_samples(tokenizer: Tokenizer, chosen: list[int]) -> None:
    samples = [EVERY_SAMPLE[i] for i in chosen]
    batch = build(tokenizer, samples)
    assert batch.pixels.shape == (6000, 768) and batch.pixels.dtype == torch.uint8
    assert batch.tiles.shape == (80, 4) and batch.tiles.dtype == torch.int32
    assert batch.metadata.shape == (6, 900) and batch.metadata.dtype == torch.int32
    metadata, tiles, pixels = batch.metadata.numpy(), batch.tiles.numpy(), batch.pixels.numpy()
    token = view_number = 0
    for segment, sample in enumerate(samples, start=1):
        views = [make_views(open_image(image), mode_of(sample)) for image in sample.images]
        layouts, first_rows = [], []
        for image in views:
            tile_side = 0 if image.tiles is None else image.tiles.shape[-1]
            layouts.append(image_layout(image.global_view.shape[-1], tile_side, image.grid))
            first_rows.append(int(tiles[view_number, 3]))
            for view in [*([] if image.tiles is None else image.tiles), image.global_view]:
                offset, high, wide, vision_row = tiles[view_number].tolist()
                assert high == wide == view.shape[-1] // 16
                assert pixels[offset : offset + high * wide].tobytes() == view.tobytes()
                if view_number + 1 < len(tiles) and tiles[view_number + 1, 1]:
                    assert tiles[view_number + 1, 3] == vision_row + (high // 4) ** 2
                    assert tiles[view_number + 1, 0] == offset + high * wide
                view_number += 1
        sequence = build_sequence(tokenizer, sample.prompt, layouts, sample.response)
        rows = metadata[:, token : token + len(sequence)]
        assert np.array_equal(rows[TOKEN_IDS], sequence.input_ids)
        assert np.array_equal(rows[LABEL], sequence.labels)
        assert np.array_equal(rows[POSITION], np.arange(len(sequence)))
        assert (rows[SEGMENT] == segment).all()
        for code, image, index in zip(
            sequence.vision_code, sequence.image_number, rows[VISION_INDEX].tolist(), strict=True
        ):
            special = {-3: -1, NEWLINE: 400, SEPARATOR: 401}
            assert index == (first_rows[image] + code if code >= 0 else special[int(code)])
        token += len(sequence)
    assert not tiles[view_number:].any()
    empty = metadata[:, token:]
    assert (empty[TOKEN_IDS] == tokenizer.pad_id).all() and (empty[VISION_INDEX] == -1).all()
    assert not empty[SEGMENT].any() and not empty[POSITION].any() and (empty[LABEL] == -100).all()
    checksum = zlib.crc32("\n".join(f"all/{sample.key}" for sample in samples).encode())
    assert metadata[HEADER, :HEADER_CHECKSUM].tolist() == [77, 5, 2, 1]
    assert int(metadata[HEADER, HEADER_CHECKSUM].view(np.uint32)) == checksum
    assert metadata[HEADER, HEADER_CHECKSUM + 1] == len(samples)
    kinds = [kind_number(s.task, mode_of(s).name if s.images else TEXT) for s in samples]
    assert metadata[HEADER, HEADER_LENGTH:].tolist()[: len(kinds)] == kinds
    assert not metadata[HEADER, HEADER_LENGTH + len(kinds) :].any()


def test_rows_of_the_vision_buffer_are_used_once(tokenizer: Tokenizer) -> None:
    batch = build(tokenizer, EVERY_SAMPLE[6:11])
    rows = batch.metadata[VISION_INDEX]
    used = rows[(rows >= 0) & (rows < SHAPE.vision_tokens)]
    assert used.sort().values.tolist() == list(range(len(used)))
    views = batch.tiles[batch.tiles[:, 1] > 0]
    assert len(used) == int(((views[:, 1] // 4) ** 2).sum())


def test_more_than_fits_is_refused(tokenizer: Tokenizer) -> None:
    page = make_sample("large", "page", [(300, 300)], "text")
    for shape, sentence in (
        (MicroBatchShape(20, 6000, 80, 400), "tokens exceed"),
        (MicroBatchShape(900, 6000, 2, 400), "views exceed"),
        (MicroBatchShape(900, 300, 80, 400), "views exceed"),
        (MicroBatchShape(900, 6000, 80, 17), "views exceed"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build(tokenizer, [page], shape)


def test_a_picture_that_is_none_is_refused(tokenizer: Tokenizer) -> None:
    sample = Sample("broken", (b"GIF89a",), ("png",), ((10, 10),), "<image>\nFree OCR.", "1", "card")
    with pytest.raises(ValueError, match="image is not a readable PNG"):
        build(tokenizer, [sample])


def test_a_shape_must_hold_an_image_of_every_mode() -> None:
    SHAPE.check(NANO_MODES)
    paper = MicroBatchShape(tokens=8192, patches=64_000, views=64, vision_tokens=4400)
    paper.check({"default": MODES["gundam"], "text": MODES["tiny"]})
    assert largest_image(MODES["gundam"]) == (1263, 9 * 1600 + 4096, 10, 1156)
    for shape, sentence in (
        (
            MicroBatchShape(8, 64, 1, 4),
            "sequence.tokens=8 is too small .* nano_tiny .modes.default.* up to 10",
        ),
        (MicroBatchShape(256, 60, 1, 4), "sequence.patches=60 .* up to 64"),
        (MicroBatchShape(256, 64, 1, 3), "sequence.vision_tokens=3 .* up to 4"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            shape.check({"default": MODES["nano_tiny"]})
    with pytest.raises(ConfigError, match=r"sequence.views=4 .* nano_gundam .modes.page.* up to 10"):
        MicroBatchShape(900, 6000, 4, 400).check(NANO_MODES)
    with pytest.raises(ConfigError, match=r"sequence.views=0"):
        MicroBatchShape(900, 6000, 0, 400)
    with pytest.raises(ConfigError, match="lacks the key default"):
        SHAPE.check({"page": MODES["tiny"]})
