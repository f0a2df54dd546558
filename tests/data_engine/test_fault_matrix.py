"""The fault matrix of issue 4 at the level of a dataset: whatever breaks is noticed, and by whom is said here.

`index` means python -m data_engine index=, `open` Dataset.open, `read` the reading of a sample it hit, `verify`
python -m data_engine verify=.
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_engine import storage
from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.errors import ConfigError
from data_engine.manifest import MANIFEST_NAME
from data_engine.sample import Sample
from data_engine.shards import write_manifest, write_shard
from data_engine.tar_scan import TarError, TarScan
from data_engine.verify import verify
from tests.data_engine.foreign_tars import bomb, index, pages, picture, write_tar

Noticed = (ConfigError, DamagedSampleError)
SAMPLES = 6


def check(directory: Path) -> None:
    verify(Dataset.open(directory), lambda done, samples: None)


def read_all(directory: Path) -> list[Sample]:
    dataset = Dataset.open(directory)
    return [dataset.read(i) for i in range(len(dataset))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars of others, indexed."""
    directory = tmp_path_factory.mktemp("matrix") / "whole"
    write_tar(directory / "a.tar", pages(SAMPLES // 2))
    write_tar(directory / "b.tar", pages(SAMPLES // 2, start=100))
    index(directory)
    return directory


@pytest.fixture
def broken(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(whole, tmp_path / "broken"))


def members_of(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def flip(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x10]))


CUTS: dict[str, Callable[[tarfile.TarInfo], int]] = {
    "inside a payload": lambda member: member.offset_data + member.size // 2,
    "at a member boundary": lambda member: member.offset,
    "inside a header": lambda member: member.offset + 100,
    "inside a padding": lambda member: member.offset_data + member.size + 1,
}


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("number", [2, 3])
def test_cut_tars(broken: Path, where: str, number: int) -> None:
    """Before indexing: by index. Afterwards: by the first read of that shard, and by verify."""
    path = broken / "b.tar"
    cut(path, CUTS[where](members_of(path)[number]))
    with pytest.raises(DamagedSampleError, match=r"the shard has \d+ bytes and manifest.json says \d+"):
        Dataset.open(broken).read(3)
    assert Dataset.open(broken).read(2).response == "text of 2"
    with pytest.raises(DamagedSampleError):
        check(broken)
    with pytest.raises(ConfigError, match=r"1 of 2 tars in .* cannot be indexed: b.tar: .*it was cut"):
        index(broken)


def test_cut_in_the_end_mark(broken: Path) -> None:
    path = broken / "b.tar"
    last = members_of(path)[-1]
    cut(path, last.offset_data + 512)
    with pytest.raises(ConfigError, match=r"b.tar: it ends at byte .* without the two empty blocks"):
        index(broken)


@pytest.mark.parametrize("place", [0, 124, 150, 156, 257])
def test_header_byte_flipped(broken: Path, place: int) -> None:
    """No reader looks at a header again: by index and verify; `webdataset` ends the shard there without a word."""
    flip(broken / "b.tar", members_of(broken / "b.tar")[2].offset + place)
    with pytest.raises(ConfigError, match=r"b.tar: (the|a) header .*"):
        index(broken)
    with pytest.raises(DamagedSampleError, match=r"b.tar is damaged outside of its samples"):
        check(broken)
    assert len(read_all(broken)) == SAMPLES


@pytest.mark.parametrize("number", [2, 3])
def test_payload_byte_flipped(broken: Path, number: int) -> None:
    """By read and verify. Before indexing nobody can know, except where the image or text no longer makes sense."""
    member = members_of(broken / "b.tar")[number]
    flip(broken / "b.tar", member.offset_data + member.size // 2)
    dataset = Dataset.open(broken)
    dataset.read(3)
    with pytest.raises(DamagedSampleError, match=r"the checksum of its (image|txt) does not match") as caught:
        dataset.read(4)
    assert (caught.value.sample, caught.value.key) == (4, "b/00101")
    assert caught.value.shard == str(broken / "b.tar")
    with pytest.raises(DamagedSampleError, match="b/00101"):
        check(broken)


def test_member_missing_after_indexing(broken: Path) -> None:
    members = pages(SAMPLES // 2, start=100)
    write_tar(broken / "b.tar", members[:2] + members[3:])
    for i in (4, 5):  # tar pads to 10 KiB, so the size may be the same
        with pytest.raises(DamagedSampleError, match=r"the shard has|the checksum of its image"):
            Dataset.open(broken).read(i)
    with pytest.raises(DamagedSampleError):
        check(broken)


def test_shard_replaced_by_another_of_the_same_size(broken: Path) -> None:
    size = (broken / "b.tar").stat().st_size
    write_tar(
        broken / "b.tar", [(name, data.replace(b"text", b"TEXT")) for name, data in pages(3, start=100)]
    )
    assert (broken / "b.tar").stat().st_size == size
    with pytest.raises(DamagedSampleError, match="checksum of its txt"):
        Dataset.open(broken).read(3)
    with pytest.raises(DamagedSampleError, match="checksum of its txt"):
        check(broken)


def test_shards_that_changed_places(broken: Path) -> None:
    (broken / "a.tar").rename(broken / "c.tar")
    (broken / "b.tar").rename(broken / "a.tar")
    (broken / "c.tar").rename(broken / "b.tar")
    for i in range(SAMPLES):
        with pytest.raises(DamagedSampleError):
            Dataset.open(broken).read(i)


def test_shard_vanished(broken: Path) -> None:
    dataset = Dataset.open(broken)
    (broken / "b.tar").unlink()
    dataset.read(0)
    with pytest.raises(DamagedSampleError, match=r"b/00100 .*it cannot be read \(No such file"):
        dataset.read(3)
    with pytest.raises(ConfigError, match=r"b.tar is missing and manifest.json lists it"):
        Dataset.open(broken)


def test_disk_error_on_read(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(broken)
    dataset.read(0)

    def fails(descriptor: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(storage.os, "pread", fails)
    with pytest.raises(DamagedSampleError, match="it cannot be read \\(Input/output error\\)") as caught:
        dataset.read(0)
    assert caught.value.sample == 0
    with pytest.raises(ConfigError, match=r"dataset.index is damaged: it cannot be read"):
        Dataset.open(broken)


def test_wrong_manifest(broken: Path, whole: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "other" / "a.tar", pages(4))
    index(tmp_path / "other")
    shutil.copy(tmp_path / "other" / MANIFEST_NAME, broken / MANIFEST_NAME)
    with pytest.raises(ConfigError, match=r"dataset.index is not of this manifest.json"):
        Dataset.open(broken)


def test_index_cut(broken: Path) -> None:
    path = broken / "dataset.index"
    size = path.stat().st_size
    for length in (0, 20, 3000, size - 1):
        cut(path, length)
        with pytest.raises(ConfigError, match=r"dataset.index is damaged"):
            Dataset.open(broken)


def test_bad_images_that_an_index_let_pass(tmp_path: Path) -> None:
    """The end of a JPEG is there and its middle is not what it was: only decoding it can tell."""
    data = bytearray(picture(64, 64, "PNG"))
    middle = data.index(b"IDAT") + 30
    data[middle : middle + 8] = bytes(8)
    write_tar(tmp_path / "a.tar", [*pages(2), ("x.png", bytes(data)), ("x.txt", b"x")])
    index(tmp_path)
    with pytest.raises(
        DamagedSampleError, match=r"sample a/x in .*: an image is wrong: image cannot be decoded"
    ):
        check(tmp_path)


@pytest.mark.parametrize(
    ("data", "size", "reason"),
    [
        (bomb(), (20000, 20000), "image has more than 100,000,000 pixels"),
        (picture()[:-40], (20, 10), "image ends before its end"),
        (picture(), (21, 10), "it is a jpg of 20 x 10 pixels, not a jpg of 21 x 10"),
    ],
)
def test_bad_images_that_were_written_are_found_by_verify(
    tmp_path: Path, data: bytes, size: tuple[int, int], reason: str
) -> None:
    name = "png" if data[:4] == b"\x89PNG" else "jpg"
    sample = Sample("x", (data,), (name,), (size,), "<image>", "x", "page")
    record = write_shard(tmp_path, "a", [sample], {})
    write_manifest(tmp_path, kind="x", seed=0, shards=[record], skipped=[], options={}, versions={})
    with pytest.raises(DamagedSampleError, match=f"sample x in .*: an image is wrong: {reason}"):
        check(tmp_path)


def test_a_key_that_comes_twice_is_found_by_verify(tmp_path: Path) -> None:
    sample = Sample("x", (), (), (), "say", "x", "text")
    records = [write_shard(tmp_path, name, [sample], {}) for name in ("a", "b")]
    write_manifest(tmp_path, kind="x", seed=0, shards=records, skipped=[], options={}, versions={})
    with pytest.raises(DamagedSampleError, match=r"the key x appears twice, as sample 0 and 1"):
        check(tmp_path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_noticed(whole: Path, data: st.DataObject) -> None:
    """By verify always; and whoever reads all samples either notices it too, or reads what was written."""
    directory = whole.with_name("flipped")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(whole, directory)
    name = data.draw(st.sampled_from(["a.tar", "b.tar", "dataset.index", "a.npz", MANIFEST_NAME]))
    path = directory / name
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    with suppress(*Noticed):
        assert read_all(directory) == read_all(whole)
    if name == MANIFEST_NAME:
        try:
            check(directory)
        except Noticed:
            return
        # White space between values may change.
        assert Dataset.open(directory).manifest == Dataset.open(whole).manifest
        return
    with pytest.raises(Noticed):
        check(directory)


def names_in(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        yield from (member.name for member in TarScan(file, largest=1 << 20))


def test_two_tars_one_after_the_other(tmp_path: Path) -> None:
    first, second = write_tar(tmp_path / "a.tar", pages(1)), write_tar(tmp_path / "b.tar", pages(1))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(TarError, match="several tars one after the other"):
        list(names_in(first))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=2000), start=st.integers(0, 2000))
def test_no_bytes_bring_the_scan_to_anything_but_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    good = write_tar(path, pages(1)).read_bytes()
    path.write_bytes(good[:start] + data + good[start + len(data) :])
    with suppress(TarError):
        assert all(isinstance(name, str) for name in names_in(path))
