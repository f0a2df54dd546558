"""Datasets behind URLs, read by ranges; failures that pass are tried again, and the others are one sentence."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from data_engine import storage
from data_engine.dataset import DamagedSampleError, Dataset, open_datasets
from data_engine.errors import ConfigError
from data_engine.storage import LocalStorage, RemoteStorage
from data_engine.verify import verify
from tests.data_engine.foreign_tars import index, pages, write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def in_memory(cards: Dataset) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for path in cards.directory.iterdir():
        files.pipe_file(f"/bucket/cards/{path.name}", path.read_bytes())
    yield "memory://bucket/cards"
    files.rm("/bucket", recursive=True)


def test_a_dataset_behind_a_url(in_memory: str, cards: Dataset, cache: Path) -> None:
    remote = Dataset.open(in_memory)
    assert [remote.read(i) for i in range(12)] == [cards.read(i) for i in range(12)]
    assert (remote.name, remote.fingerprint) == ("cards", cards.fingerprint)
    assert list(open_datasets(in_memory)) == ["cards"]
    verify(remote, lambda done, samples: None)
    with pytest.raises(ConfigError, match="is a URL, and a directory is needed"):
        _ = remote.directory
    (copy,) = cache.iterdir()
    assert copy.read_bytes() == (cards.directory / "dataset.index").read_bytes()
    assert pickle.loads(pickle.dumps(remote)).read(3) == cards.read(3)


def test_a_damaged_copy_of_the_index_is_fetched_again(in_memory: str, cards: Dataset, cache: Path) -> None:
    Dataset.open(in_memory)
    (copy,) = cache.iterdir()
    copy.write_bytes(b"x" * 100)
    assert Dataset.open(in_memory).read(0) == cards.read(0)


def test_a_url_without_the_joint_index(in_memory: str, cards: Dataset) -> None:
    fsspec.filesystem("memory").rm("/bucket/cards/dataset.index")
    assert Dataset.open(in_memory).read(7) == cards.read(7)


def test_a_file_url(cards: Dataset, tmp_path: Path) -> None:
    shutil.copytree(cards.directory, tmp_path / "cards")
    assert Dataset.open(f"file://{tmp_path}/cards").read(5) == cards.read(5)


def test_index_of_tars_behind_a_url(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    path = write_tar(tmp_path / "a.tar", pages(4))
    files.pipe_file("/others/a.tar", path.read_bytes())
    with pytest.raises(ConfigError, match="out is required: give out=DIR"):
        index("memory://others")
    index("memory://others", tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.read(2).response == "text of 2"
    assert index("memory://others", tmp_path / "out").reused_tars == 1
    files.rm("/others", recursive=True)
    with pytest.raises(DamagedSampleError, match=r"sample a/00001 in memory://others/a.tar .*cannot be read"):
        dataset.read(1)


class Failing:
    """A file system whose ranges fail a number of times."""

    def __init__(self, system: Any, failures: int) -> None:
        self.system, self.failures = system, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def cat_file(self, *arguments: Any) -> bytes:
        if self.failures:
            self.failures -= 1
            raise TimeoutError("503 slow down")
        return bytes(self.system.cat_file(*arguments))


def test_failures_that_pass_are_tried_again(in_memory: str, cards: Dataset) -> None:
    dataset = Dataset.open(in_memory)
    remote = dataset.tars
    assert isinstance(remote, RemoteStorage)
    remote._system = Failing(remote._system, storage.ATTEMPTS - 1)
    assert dataset.read(1) == cards.read(1)
    remote._system.failures = 10**6
    with pytest.raises(
        DamagedSampleError,
        match=r"memory://bucket/cards/card-000000.tar could not be read in 5 attempts: 503",
    ) as caught:
        dataset.read(2)
    assert (caught.value.sample, caught.value.shard) == (2, "memory://bucket/cards/card-000000.tar")


def test_what_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"memory://nothing does not exist"):
        Dataset.open("memory://nothing")
    with pytest.raises(ConfigError, match=r"nosuch://bucket/x cannot be read: Protocol not known"):
        Dataset.open("nosuch://bucket/x")


def test_a_fork_reads_while_a_thread_of_the_parent_holds_the_lock(cards: Dataset) -> None:
    local = LocalStorage(cards.directory)
    local.read("manifest.json", 0, 1)
    with local._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if local.read("manifest.json", 0, 1) == b"{" else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_threads_share_a_dataset_and_its_open_files(cards: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStorage, "OPEN_FILES", 1)  # every read closes what another thread may be reading
    dataset = Dataset.open(cards.directory)
    expected = [cards.read(i) for i in range(12)]
    wrong: list[int] = []

    def read(start: int) -> None:
        for step in range(120):
            i = (start + 5 * step) % 12
            if dataset.read(i) != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
