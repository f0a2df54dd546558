"""Samples that cannot be used: all of them are noticed, and the run stops or goes on without them, as told."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reading_samples import NANO_MODES, MemoryDataset, cards, make_sample, texts

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.errors import ConfigError
from data_engine.sample import Sample
from data_engine.shards import write_manifest, write_shard
from model.tokenizer import Tokenizer
from model.views import view_plan
from train.data.damage import Damage, DamagedDataError, DamagePolicy, Quarantine
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import (
    HEADER,
    HEADER_LABELLED,
    HEADER_LENGTH,
    LABEL,
    SEGMENT,
    MicroBatch,
    MicroBatchShape,
)
from train.data.mixture import Mixture
from train.data.reader import read_patiently

SHAPE = MicroBatchShape(tokens=300, patches=3000, views=24, vision_tokens=200)
BLANK = DamagePolicy("blank")


def loader(dataset: Dataset | MemoryDataset, tokenizer: Tokenizer, **options: object) -> PackedLoader:
    window = Mixture(window=len(dataset))
    chosen = {"prefetch": 0, **options}
    settings = LoaderSettings(modes=NANO_MODES, shape=SHAPE, micro_batches_per_step=1, **chosen)
    return PackedLoader({dataset.name: dataset}, tokenizer, settings, window, seed=1)


def one_epoch(reader: PackedLoader) -> list[MicroBatch]:
    steps = []
    while reader.plan.summary(len(steps)).window == 0:
        steps.append(len(steps))
    return [batch for step in steps for batch in reader.step_batches(step)]


def on_disk(directory: Path, count: int = 24) -> Dataset:
    directory.mkdir()
    made = [make_sample(f"card-{i:03d}", "card", [(100, 60)], f"{i}") for i in range(count)]
    record = write_shard(directory, "card-000000", made, {})
    write_manifest(directory, kind="card", seed=1, shards=[record], skipped=[], options={}, versions={})
    return Dataset.open(directory)


def flip(member: str) -> Callable[[Path], None]:
    def damage(tar: Path) -> None:
        content = bytearray(tar.read_bytes())
        content[content.index(member.encode()) + 512 + 60] ^= 1
        tar.chmod(0o644)
        tar.write_bytes(content)

    return damage


def cut(tar: Path) -> None:
    tar.chmod(0o644)
    with open(tar, "r+b") as file:
        file.truncate(tar.stat().st_size * 3 // 4)


@pytest.mark.parametrize("prefetch", [0, 1])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (flip("card-007.png"), r"card-007 in .*card-000000.tar is damaged: the checksum of its image"),
        (flip("card-011.json"), r"card-011 in .*card-000000.tar is damaged: the checksum of its json"),
        (cut, r"in .*card-000000.tar is damaged: "),
        (Path.unlink, r"card-000000.tar"),
    ],
    ids=["image flipped", "text flipped", "cut", "removed"],
)
def test_the_run_stops_at_damage_in_a_shard(
    tokenizer: Tokenizer, tmp_path: Path, damage: Callable[[Path], None], sentence: str, prefetch: int
) -> None:
    dataset = on_disk(tmp_path / "cards")
    damage(tmp_path / "cards/card-000000.tar")
    reader = loader(dataset, tokenizer, prefetch=prefetch)
    with pytest.raises(DamagedDataError, match=sentence) as stop:
        one_epoch(reader)
    assert "damage.policy=blank" in str(stop.value) and "\n" not in str(stop.value)
    reader.close()


@pytest.mark.parametrize(
    ("member", "dropped"), [("card-007.png", False), ("card-007.json", True)], ids=["image", "text"]
)
def test_the_run_goes_on_without_the_damaged_sample(
    tokenizer: Tokenizer, tmp_path: Path, member: str, dropped: bool
) -> None:
    whole = on_disk(tmp_path / "whole")
    dataset = on_disk(tmp_path / "cards")
    expected = one_epoch(loader(whole, tokenizer))
    flip(member)(tmp_path / "cards/card-000000.tar")
    reader = loader(dataset, tokenizer, damage=BLANK)
    batches = one_epoch(reader)
    (damage,) = reader.take_damages()
    assert damage[:4] == ("cards", 7, str(tmp_path / "cards/card-000000.tar"), "card-007")
    assert "checksum" in damage.reason
    assert not reader.take_damages(), "reported once"
    labels = [int((batch.metadata[LABEL] >= 0).sum()) for batch in batches]
    labelled = sum(int((batch.metadata[LABEL] >= 0).sum()) for batch in expected)
    assert labelled - sum(labels) == len(tokenizer.encode("7")) + 1
    segments = sum(len(batch.metadata[SEGMENT].unique()) - 1 for batch in batches)
    assert segments == 23, "every other sample is there"
    promised = sum(int(batch.metadata[HEADER, HEADER_LABELLED]) for batch in batches)
    # A sample that was planned counts in the loss's denominator; one whose text is unreadable was never planned.
    assert promised - sum(labels) == (0 if dropped else labelled - sum(labels))


def broken(sample: Sample, **changes: object) -> Sample:
    return dataclasses.replace(sample, **changes)


HONEST = make_sample("page", "page", [(300, 300)], "text")


@pytest.mark.parametrize(
    ("sample", "sentence"),
    [
        (broken(HONEST, images=(b"no image",)), "image is not a readable PNG"),
        (broken(HONEST, images=(HONEST.images[0][:-400],)), "image is not a readable PNG"),
        (broken(HONEST, image_sizes=((64, 64),)), "300 x 300 pixels and the index says 64 x 64"),
        (broken(HONEST, prompt="Free OCR."), "the prompt holds 0 <image>"),
    ],
    ids=["no image", "image cut short", "another size", "prompt without its mark"],
)
def test_a_sample_that_contradicts_itself(tokenizer: Tokenizer, sample: Sample, sentence: str) -> None:
    dataset = MemoryDataset("page", [HONEST, sample])
    with pytest.raises(DamagedDataError, match=f"sample page .page/1. cannot be used: .*{sentence}"):
        one_epoch(loader(dataset, tokenizer))
    reader = loader(dataset, tokenizer, damage=BLANK)
    batches = one_epoch(reader)
    assert [damage.identity for damage in reader.take_damages()] == ["page/1"]
    assert (
        sum(int((batch.metadata[LABEL] >= 0).sum()) for batch in batches) == len(tokenizer.encode("text")) + 1
    )
    views = sum(int((batch.tiles[:, 1] > 0).sum()) for batch in batches)
    assert views == len(view_plan(300, 300, NANO_MODES["page"]).sides), "half an image stayed"


def test_a_text_that_is_not_as_long_as_planned(tokenizer: Tokenizer) -> None:
    dataset = texts(6)
    reader = loader(dataset, tokenizer, damage=BLANK)
    reader.plan.summary(0)  # planned now, changed then
    dataset.samples[3] = broken(dataset.samples[3], response="much longer than it was " * 3)
    one_epoch(reader)
    (damage,) = reader.take_damages()
    assert damage.sample == 3 and "tokens and was measured at" in damage.reason


def test_a_blank_changes_nothing_about_its_neighbours(tokenizer: Tokenizer) -> None:
    samples = cards(12).samples
    whole = loader(MemoryDataset("card", samples, "same"), tokenizer)
    damaged = [broken(s, images=(b"",)) if i == 4 else s for i, s in enumerate(samples)]
    reader = loader(MemoryDataset("card", damaged, "same"), tokenizer, damage=BLANK)
    assert reader.plan.identities(0) == whole.plan.identities(0) and reader.state(1) == whole.state(1)
    for ours, theirs in zip(one_epoch(reader), one_epoch(whole), strict=True):
        assert torch.equal(ours.metadata[HEADER, :HEADER_LENGTH], theirs.metadata[HEADER, :HEADER_LENGTH])
        for segment in ours.metadata[SEGMENT].unique().tolist()[1:]:
            mine = ours.metadata[:HEADER, ours.metadata[SEGMENT] == segment]
            other = theirs.metadata[:HEADER, theirs.metadata[SEGMENT] == segment]
            text = mine[1] < 0
            assert torch.equal(mine[:, text], other[:, text])


class Flaky(MemoryDataset):
    """A disk that fails a few times."""

    def __init__(self, samples: list[Sample], failures: int, error: Exception) -> None:
        super().__init__("text", samples)
        self.failures, self.error = failures, error

    def read(self, i: int) -> Sample:
        if self.failures:
            self.failures -= 1
            raise self.error
        return super().read(i)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_disk_that_recovers_is_waited_for(monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    monkeypatch.setattr("train.data.reader.RETRY_PAUSES", (0.001, 0.001))
    error: Exception = OSError(errno.EIO, "Input/output error")
    if wrapped:
        cause, error = error, DamagedSampleError("the tar cannot be read")
        error.__cause__ = cause
    flaky = Flaky(texts(1).samples, 2, error)
    assert read_patiently(flaky.read, 0) is flaky.samples[0]
    flaky = Flaky(texts(1).samples, 3, error)
    with pytest.raises(type(error)):
        read_patiently(flaky.read, 0)
    gone = Flaky(texts(1).samples, 1, FileNotFoundError(errno.ENOENT, "gone"))
    with pytest.raises(FileNotFoundError):
        read_patiently(gone.read, 0)


def test_a_disk_that_stays_broken_is_damage(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.reader.RETRY_PAUSES", (0.001,))
    flaky = Flaky(texts(4).samples, 2, OSError(errno.EIO, "Input/output error"))
    reader = loader(flaky, tokenizer, damage=BLANK)
    one_epoch(reader)
    assert ["Input/output error" in damage.reason for damage in reader.take_damages()] == [True]


def note(sample: int) -> Damage:
    return Damage("cards", sample, "cards/a.tar", f"card-{sample}", "it is broken")


def test_the_quarantine_names_each_sample_once(tmp_path: Path) -> None:
    first = Quarantine(tmp_path, 0)
    assert first.add(3, [note(1), note(2), note(1)]) == [note(1), note(2)]
    with open(tmp_path / "quarantine-rank0.jsonl", "a") as file:
        file.write('{"step": 4, "data')  # killed while writing
    other = Quarantine(tmp_path, 1)
    assert other.before == 2 and not other.add(5, [note(2)])
    again = Quarantine(tmp_path, 0)
    assert again.add(3, [note(1), note(7)]) == [note(7)] and (again.before, again.added) == (2, 1)
    lines = (tmp_path / "quarantine-rank0.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "step": 3, "dataset": "cards", "sample": 1, "shard": "cards/a.tar", "key": "card-1", "reason": "it is broken",
    }  # fmt: skip
    assert json.loads(lines[-1])["sample"] == 7 and len(lines) == 4
    assert not (tmp_path / "quarantine-rank1.jsonl").exists()


def test_policies_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"damage.policy=skip is unknown; choose one of stop, blank"):
        DamagePolicy("skip")
    with pytest.raises(ConfigError, match=r"damage.budget=-1"):
        DamagePolicy("blank", -1)
