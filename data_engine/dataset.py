"""Reading: a directory of shards as an array of samples, every byte checked on the way in.

Nothing here trusts a tar: positions, sizes and checksums come from dataset.index, whose blocks have checksums of
their own and whose head names the manifest. Reading is by position, so any order is as good as any other, and
threads and forked processes may share one Dataset. The shards may lie on a disk or behind any URL of fsspec.

What is compared when:
    at open       manifest with itself, index with manifest, and, on a disk, the names of the shards with both
    at first use  the size of a shard; every block of the index whenever it is read
    at read       size and checksum of every member of the sample
    by verify=    all of it at once, and what no reader looks at: headers, padding, the shards' own indices, pixels
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError, DamagedSampleError
from data_engine.foreign import OWN, Convention
from data_engine.index_cache import cached_copy
from data_engine.index_file import (
    CHECKED_BY,
    CHECKSUM,
    CHECKSUMS,
    FORMAT,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    INDEX_NAME,
    OFFSET,
    SIZE,
    SPAN_BITS,
    SPAN_MASK,
    TEXT_KEY,
    IndexFile,
)
from data_engine.manifest import (
    MANIFEST_NAME,
    REMEDY,
    ShardRecord,
    manifest_content,
    read_manifest,
    shards_of,
)
from data_engine.sample import IMAGE_FORMATS, Sample
from data_engine.shard_index import join_shard_indices, read_shard_index
from data_engine.storage import LocalStorage, Storage, is_url, storage_at

__all__ = ["DamagedSampleError", "Dataset", "open_datasets"]

_GAP = 1 << 16
"""Bytes between the members of a sample that are rather read than asked around."""


class Dataset:
    """Shards with their index and one manifest.json. Made by `Dataset.open`."""

    name: str
    """The last part of the path or URL."""
    fingerprint: str
    """Changes exactly when the content of a shard does, or what is made of it."""
    manifest: dict[str, Any]

    def __init__(
        self, storage: Storage, manifest: dict[str, Any], shards: list[ShardRecord], index: IndexFile
    ) -> None:
        self.storage = storage
        """Where manifest and index lie."""
        self.tars = storage_at(manifest.get("tars", storage.location))
        """Where the tars lie: beside the manifest unless it says otherwise."""
        self.name = storage.location.rpartition("/")[2]
        self.manifest = manifest
        self.fingerprint = manifest["fingerprint"]
        self.shards = shards
        self.convention = Convention.of_manifest(manifest)
        """How members become samples, for tars that others wrote."""
        self.index = index
        self._ends = list(accumulate(shard.samples for shard in shards))
        self._compared: set[str] = set()

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> Dataset:
        """Open a finished dataset: a directory, or a URL that fsspec understands.

        Costs the same for any number of samples: see the top of this file for what is compared when. A dataset
        from before dataset.index existed gets it made in memory, every time: `python -m data_engine index=DIR`
        writes it down. Nothing is written here, since data are often read-only and opened by many processes at once.

        Raises ConfigError when it is missing, unfinished, or not what its manifest says.
        """
        storage = storage_at(location)
        manifest = read_manifest(storage)
        shards = shards_of(manifest)
        if manifest["samples"] == 0:
            raise ConfigError(
                f"the dataset {storage.location} holds no sample: make it again with samples=1 or more."
            )
        dataset = cls(storage, manifest, shards, _open_index(storage, manifest))
        if isinstance(dataset.tars, LocalStorage):
            _check_names(dataset.tars, shards)
        return dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.storage.location,)  # another process opens it for itself

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def directory(self) -> Path:
        """The directory of a dataset on a disk. ConfigError for a URL."""
        if is_url(self.storage.location):
            raise ConfigError(
                f"{self.storage.location} is a URL, and a directory is needed here: copy it first."
            )
        return Path(self.storage.location)

    def read(self, i: int) -> Sample:
        """Sample `i` with its encoded images. DamagedSampleError when a checksum does not match."""
        return self._sample(i, with_images=True)

    def read_text(self, i: int) -> Sample:
        """Sample `i` without its images: `images` is empty, `image_sizes` is known. No image is read."""
        return self._sample(i, with_images=False)

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Images of many samples, from the index alone.

        Args:
            samples: sample numbers [n], in any order, repeated or not.

        Returns:
            How many images each sample has [n], and (width, height) of all of them in that order [m, 2].
        """
        found = self.index.gather("images", self._checked(samples))
        counts = (found >> np.uint64(SPAN_BITS)).astype(np.int64)
        starts = (found & np.uint64(SPAN_MASK)).astype(np.int64)
        first = np.cumsum(counts) - counts
        rows = np.repeat(starts - first, counts) + np.arange(int(counts.sum()))
        return counts, self.index.gather("image_sizes", rows)

    def text_lengths_of(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response of many samples [n, 2], from the index alone."""
        return self.index.gather("lengths", self._checked(samples))

    def key(self, i: int) -> str:
        """The key of sample `i`, from the index alone."""
        return self._key(self.shard_of(i)[1], self.index.text(i)[TEXT_KEY])

    def close(self) -> None:
        """Close the files that are open. Reading afterwards opens them again."""
        self.storage.close()
        self.tars.close()

    def _checked(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        samples = np.asarray(samples, np.int64)
        if samples.size and not (samples.min() >= 0 and samples.max() < len(self)):
            raise IndexError(
                f"dataset {self.name} has samples 0 to {len(self) - 1}, and others were asked for"
            )
        return samples

    def shard_of(self, i: int) -> tuple[int, ShardRecord]:
        """The shard of sample `i`, with its number."""
        if not 0 <= i < len(self):
            raise IndexError(f"dataset {self.name} has samples 0 to {len(self) - 1}, and {i} was asked for")
        number = bisect_right(self._ends, i)
        return number, self.shards[number]

    def _key(self, shard: ShardRecord, span: int) -> str:
        key = self.index.key(span)
        return key if self.convention == OWN else f"{shard.name}/{key}"

    def _sample(self, i: int, with_images: bool) -> Sample:
        _, shard = self.shard_of(i)
        text = self.index.text(i)
        key = self._key(shard, text[TEXT_KEY])
        images = [self.index.image(row) for row in self.index.images_of(i)]
        formats = tuple([IMAGE_FORMATS[image[FORMAT]] for image in images])
        sizes = tuple([(image[IMAGE_WIDTH], image[IMAGE_HEIGHT]) for image in images])
        try:
            *pictures, data = self._members(shard, [*images, text] if with_images else [text])
            return self.convention.sample(key, data, tuple(pictures), formats, sizes)
        except ValueError as error:
            path, problem = self.tars.path(f"{shard.name}.tar"), str(error)
            raise DamagedSampleError(
                f"sample {key} in {path} is damaged: {problem}; {REMEDY}.", path, key, i, problem
            ) from error

    def _members(self, shard: ShardRecord, parts: list[tuple[int, ...]]) -> list[bytes]:
        """The content of members of one sample, its text last; ValueError when it is not what the index says.

        `parts` are their rows in the index.
        """
        name = f"{shard.name}.tar"
        try:
            if name not in self._compared:
                self._compare_size(name, shard)
            begin = min([part[OFFSET] for part in parts])
            length = max([part[OFFSET] + part[SIZE] for part in parts]) - begin
            if length <= sum([part[SIZE] for part in parts]) + _GAP:
                # One request: on an object store every one costs a round trip.
                whole = self.tars.read(name, begin, length)
                starts = [part[OFFSET] - begin for part in parts]
                contents = [
                    whole[start : start + part[SIZE]] for start, part in zip(starts, parts, strict=True)
                ]
            else:
                contents = [self.tars.read(name, part[OFFSET], part[SIZE]) for part in parts]
        except OSError as error:
            raise ValueError(f"it cannot be read ({error.strerror or error})") from error
        for number, (part, data) in enumerate(zip(parts, contents, strict=True), 1):
            size = part[SIZE]
            if len(data) != size or CHECKSUMS[part[CHECKED_BY]](data) != part[CHECKSUM]:
                what = self.convention.text_member if number == len(parts) else "image"
                raise ValueError(
                    f"its {what} ends after {len(data)} of {size} bytes"
                    if len(data) < size
                    else f"the checksum of its {what} does not match"
                )
        return contents

    def _compare_size(self, name: str, shard: ShardRecord) -> None:
        size = self.tars.size(name)
        if size != shard.bytes:
            raise ValueError(f"the shard has {size} bytes and {MANIFEST_NAME} says {shard.bytes}")
        self._compared.add(name)


def open_datasets(location: str | os.PathLike[str]) -> dict[str, Dataset]:
    """Name -> dataset: `location` itself when it is one, else every sub-directory that is one. A URL is one dataset.

    A sub-directory with shards and no manifest is an unfinished dataset and is refused rather than left out.
    """
    if is_url(location):
        dataset = Dataset.open(location)
        return {dataset.name: dataset}
    path = Path(os.path.abspath(location))
    if not path.is_dir():
        raise ConfigError(f"the data directory {path} does not exist: make it with python -m data_engine.")
    if (path / MANIFEST_NAME).exists() or any(path.glob("*.tar")):
        return {path.name: Dataset.open(path)}
    children = sorted(child for child in path.iterdir() if child.is_dir())
    found = [child for child in children if (child / MANIFEST_NAME).exists() or any(child.glob("*.tar"))]
    if not found:
        raise ConfigError(
            f"the data directory {path} holds no dataset (a directory with shards and a {MANIFEST_NAME}): "
            "make one with python -m data_engine."
        )
    return {child.name: Dataset.open(child) for child in found}


def _open_index(storage: Storage, manifest: dict[str, Any]) -> IndexFile:
    content = manifest_content(manifest)
    try:
        if isinstance(storage, LocalStorage):
            index = _index_in(storage, INDEX_NAME)
        else:
            index = cached_copy(storage, f"{content}.index", _index_in)
    except FileNotFoundError:
        buffer = io.BytesIO()
        join_shard_indices(buffer, manifest, lambda shard: read_shard_index(storage, shard))
        data = buffer.getvalue()
        name = f"the index in memory of {storage.location}"
        index = IndexFile(lambda offset, size: data[offset : offset + size], len(data), name)
    except OSError as error:
        raise ConfigError(f"{storage.path(INDEX_NAME)} cannot be read ({error}): {REMEDY}.") from error
    if index.head.content != content or index.head.samples != manifest["samples"]:
        raise ConfigError(
            f"{index.name} is not of this {MANIFEST_NAME}, one of them was changed or is of another time: remove the "
            "index, and python -m data_engine index=DIR makes it again; or copy both again from where they are whole."
        )
    return index


def _index_in(storage: LocalStorage, name: str) -> IndexFile:
    """The index that is a file of a directory. Raises FileNotFoundError when it is not there."""
    size = storage.size(name)
    return IndexFile(lambda offset, count: storage.read(name, offset, count), size, storage.path(name))


def _check_names(tars: LocalStorage, shards: list[ShardRecord]) -> None:
    try:
        names = set(tars.names())
    except OSError as error:
        raise ConfigError(f"{tars.location} cannot be listed ({error.strerror}): {REMEDY}.") from error
    missing = [shard.name for shard in shards if f"{shard.name}.tar" not in names]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ConfigError(
            f"{tars.path(missing[0])}.tar{more} is missing and {MANIFEST_NAME} lists it: {REMEDY}."
        )
