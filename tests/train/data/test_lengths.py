"""Measured lengths are the lengths of what is built, and the cache is trusted only where it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reading_samples import NANO_MODES, MemoryDataset, cards, make_sample, pages, texts

from model.tokenizer import Tokenizer
from train.data.costs import SampleCosts, view_load
from train.data.damage import DamagedDataError
from train.data.draws import DrawTable
from train.data.filling import MicroBatchFilling, PackedSample
from train.data.lengths import TextLengths
from train.data.micro_batch import LABEL, SEGMENT, Header, MicroBatchShape
from train.data.modes import ModePlan, ModeShares

SHAPE = MicroBatchShape(tokens=900, patches=6000, views=80, vision_tokens=400)
MODES = ModePlan(NANO_MODES | {"card": ModeShares.of({"nano_tiny": 1, "nano_base": 1})})


def all_of(*sizes: int) -> DrawTable:
    source = np.repeat(np.arange(len(sizes)), sizes)
    sample = np.concatenate([np.arange(size) for size in sizes])
    return DrawTable(source, sample, np.zeros_like(sample), sample % 1000)


def test_costs_are_those_of_the_built_pack(tokenizer: Tokenizer) -> None:
    datasets = {"card": cards(10), "page": pages(20), "text": texts(5)}
    costs = SampleCosts(datasets, list(datasets), tokenizer, MODES).of(all_of(10, 20, 5))
    samples = [sample for dataset in datasets.values() for sample in dataset.samples]
    for sample, budget, labelled, images, load, mode in zip(samples, *costs, strict=True):
        filling = MicroBatchFilling(tokenizer, SHAPE)
        filling.add(PackedSample("x", sample, MODES.modes[mode]))
        batch = filling.finish(Header(0, 0, 0, 0))
        views = batch.tiles[batch.tiles[:, 1] > 0]
        assert budget.tolist() == [
            int((batch.metadata[SEGMENT] > 0).sum()),
            int((views[:, 1] * views[:, 2]).sum()),
            len(views),
            int(((views[:, 1] // 4) ** 2).sum()),
        ]
        assert labelled == int((batch.metadata[LABEL] != -100).sum())
        assert images == len(sample.images)
        assert load == sum(view_load(16 * side) for side in views[:, 1].tolist())
    assert all(dataset.images_read == 0 for dataset in datasets.values())


def test_text_is_read_once_and_only_when_needed(tokenizer: Tokenizer) -> None:
    dataset = cards(30)
    costs = SampleCosts({"card": dataset}, ["card"], tokenizer, MODES)
    costs.of(all_of(7))
    costs.of(all_of(9))
    assert dataset.texts_read == 9


def test_the_cache_spares_reading(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = pages(12)
    measured = SampleCosts({"page": first}, ["page"], tokenizer, MODES, tmp_path / "lengths")
    expected = measured.of(all_of(12))
    measured.save()
    (file,) = (tmp_path / "lengths").glob("*.npy")

    second = pages(12)
    cached = SampleCosts({"page": second}, ["page"], tokenizer, MODES, tmp_path / "lengths").of(all_of(12))
    assert second.texts_read == 0
    assert all(np.array_equal(one, other) for one, other in zip(cached, expected, strict=True))

    changed = pages(12)
    changed.fingerprint = "another"
    SampleCosts({"page": changed}, ["page"], tokenizer, MODES, tmp_path / "lengths").of(all_of(12))
    assert changed.texts_read == 12

    file.write_bytes(file.read_bytes()[:-100])
    third = pages(12)
    again = SampleCosts({"page": third}, ["page"], tokenizer, MODES, tmp_path / "lengths")
    again.of(all_of(12))
    assert third.texts_read == 12


def test_a_prompt_that_does_not_fit_names_its_sample(tokenizer: Tokenizer) -> None:
    sample = make_sample("odd", "card", [(100, 60)], "1")
    dataset = MemoryDataset("cards", [type(sample)(**{**sample.__dict__, "prompt": "no mark"})])
    with pytest.raises(
        DamagedDataError, match=r"sample odd .cards/0. cannot be used: the prompt holds 0 <image>"
    ):
        SampleCosts({"cards": dataset}, ["cards"], tokenizer, MODES).of(all_of(1))


def test_many_texts_are_as_long_as_each(tokenizer: Tokenizer) -> None:
    texts = ["", "plain words", "<image> spelled out", "<td>1</td> and <image>", "Schrift 字 " * 50]
    assert tokenizer.lengths(texts) == [len(tokenizer.encode(text)) for text in texts]


def test_what_is_forgotten_is_measured_again(tokenizer: Tokenizer) -> None:
    dataset = pages(40)
    small, large = TextLengths(dataset, tokenizer, remembered=7), TextLengths(dataset, tokenizer)
    for samples in (np.arange(40), np.array([3, 10, 17, 3]), np.arange(39, 20, -1)):
        assert np.array_equal(small.of(samples), large.of(samples))
    read = dataset.texts_read
    small.of(np.array([21, 22]))  # the last that were measured in their places
    assert dataset.texts_read == read
