"""Reading: a directory of shards as an array of samples, every byte checked on the way in.

Nothing here trusts a tar: positions, sizes and checksums come from dataset.index, whose blocks have checksums of
their own and whose head names the manifest. Reading is by position, so any order is as good as any other, and
threads and forked processes may share one Dataset. The shards may lie on a disk or behind any URL of fsspec.

What is compared when:
    at open       manifest with itself, index with manifest, and, on a disk, the names of the shards with both
    at first use  the size of a shard; every block of the index whenever it is read
    at read       size and CRC-32 of every member of the sample
    by verify=    all of it at once, and what no reader looks at: headers, padding, the shards' own indices, pixels
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError, DamagedSampleError
from data_engine.foreign import OWN, Convention
from data_engine.index_cache import cached_copy
from data_engine.index_file import INDEX_NAME, SPAN_BITS, IndexFile
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

_SPAN_MASK = (1 << SPAN_BITS) - 1


class _Place(NamedTuple):
    """Where a sample is."""

    i: int
    shard: ShardRecord
    images: range
    """Rows of its images in the index."""


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
        self._ends = np.cumsum([shard.samples for shard in shards], dtype=np.int64)
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
        return int(self._ends[-1])

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
        place = self._locate(i)
        parts = self.index.rows("image_parts", place.images.start, len(place.images)).tolist()
        return self._sample(place, tuple(self._member(place, "image", part) for part in parts))

    def read_text(self, i: int) -> Sample:
        """Sample `i` without its images: `images` is empty, `image_sizes` is known. No image is read."""
        return self._sample(self._locate(i), ())

    def image_sizes(self, i: int) -> tuple[tuple[int, int], ...]:
        """(width, height) of the images of sample `i`, from the index alone."""
        return self._sizes(self._locate(i).images)

    def text_lengths(self, i: int) -> tuple[int, int]:
        """Characters of prompt and response of sample `i`, from the index alone: a hint for packing."""
        self._locate(i)
        prompt, response = self.index.row("lengths", i).tolist()
        return prompt, response

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Images of many samples, from the index alone.

        Args:
            samples: sample numbers [n], in any order, repeated or not.

        Returns:
            How many images each sample has [n], and (width, height) of all of them in that order [m, 2].
        """
        found = self.index.gather("images", self._checked(samples))
        counts = (found >> np.uint64(SPAN_BITS)).astype(np.int64)
        starts = (found & np.uint64(_SPAN_MASK)).astype(np.int64)
        first = np.cumsum(counts) - counts
        rows = np.repeat(starts - first, counts) + np.arange(int(counts.sum()))
        return counts, self.index.gather("image_sizes", rows)

    def text_lengths_of(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response of many samples [n, 2], from the index alone."""
        return self.index.gather("lengths", self._checked(samples))

    def key(self, i: int) -> str:
        """The key of sample `i`, from the index alone."""
        return self._key(self._locate(i))

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

    def _locate(self, i: int) -> _Place:
        if not 0 <= i < len(self):
            raise IndexError(f"dataset {self.name} has samples 0 to {len(self) - 1}, and {i} was asked for")
        shard = self.shards[int(np.searchsorted(self._ends, i, side="right"))]
        span = int(self.index.row("images", i))
        start = span & _SPAN_MASK
        return _Place(int(i), shard, range(start, start + (span >> SPAN_BITS)))

    def _key(self, place: _Place) -> str:
        span = int(self.index.row("keys", place.i))
        key = self.index.rows("key_bytes", span & _SPAN_MASK, span >> SPAN_BITS).tobytes().decode("utf-8")
        return key if self.convention == OWN else f"{place.shard.name}/{key}"

    def _sizes(self, images: range) -> tuple[tuple[int, int], ...]:
        return tuple(map(tuple, self.index.rows("image_sizes", images.start, len(images)).tolist()))

    def _sample(self, place: _Place, images: tuple[bytes, ...]) -> Sample:
        text = self._member(place, self.convention.text_member, self.index.row("text_parts", place.i).item())
        formats: tuple[str, ...] = ()
        sizes: tuple[tuple[int, int], ...] = ()
        if self.convention != OWN:  # our own JSON says it, and needs no look into the index
            parts = self.index.rows("image_parts", place.images.start, len(place.images))
            formats = tuple(IMAGE_FORMATS[number] for number in parts["format"].tolist())
            sizes = self._sizes(place.images)
        key = self._key(place)
        try:
            return self.convention.sample(key, text, images, formats, sizes)
        except ValueError as error:
            path = self.tars.path(f"{place.shard.name}.tar")
            raise DamagedSampleError(
                f"sample {key} in {path} cannot be read: {error}.", path, key, place.i, str(error)
            ) from error

    def _member(self, place: _Place, what: str, part: tuple[int, ...]) -> bytes:
        name = f"{place.shard.name}.tar"
        offset, size, crc32 = part[:3]
        try:
            if name not in self._compared:
                self._compare_size(name, place.shard)
            data = self.tars.read(name, offset, size)
        except OSError as error:
            problem = f"its {what} cannot be read ({error.strerror or error})"
        else:
            if len(data) == size and zlib.crc32(data) == crc32:
                return data
            problem = (
                f"its {what} ends after {len(data)} of {size} bytes"
                if len(data) < size
                else f"the checksum of its {what} does not match"
            )
        path, key = self.tars.path(name), self._key(place)
        raise DamagedSampleError(
            f"sample {key} in {path} is damaged: {problem}; {REMEDY}.", path, key, place.i, problem
        )

    def _compare_size(self, name: str, shard: ShardRecord) -> None:
        size = self.tars.size(name)
        if size != shard.bytes:
            raise OSError(f"the shard has {size} bytes and {MANIFEST_NAME} says {shard.bytes}")
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
