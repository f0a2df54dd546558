"""Reading: a directory of shards as an array of samples, every byte checked on the way in.

Nothing here trusts a tar: positions, sizes and checksums come from the index, the index's own checksum from
the manifest. Reading is by position (`os.pread`), so any order is as good as any other, and threads and forked
processes may share one Dataset.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from data_engine.files import sha256_of
from data_engine.sample import SCHEMA, Sample, from_json
from data_engine.shards import MANIFEST_NAME, ShardRecord, fingerprint_of

_REMEDY = "make the dataset again, or copy it again from where it is whole"


class DamagedSampleError(Exception):
    """What a shard holds is not what was written. The message names shard, key and what is wrong."""

    def __init__(
        self,
        message: str,
        shard: str | None = None,
        key: str | None = None,
        sample: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, shard, key, sample, reason)  # all of them, so that it can be pickled
        self.message = message
        self.shard = shard
        """Path or URL of the tar."""
        self.key = key
        self.sample = sample
        """The number of the sample in its dataset."""
        self.reason = reason if reason is not None else message
        """What is wrong, without the place: "the checksum of its image does not match"."""

    def __str__(self) -> str:
        return self.message


class Dataset:
    """A directory of shards with their indices and one manifest.json. Made by `Dataset.open`."""

    name: str
    """The name of the directory."""
    fingerprint: str
    """Changes exactly when the content of a shard does."""
    manifest: dict[str, Any]

    def __init__(
        self,
        directory: Path,
        manifest: dict[str, Any],
        shards: list[ShardRecord],
        indices: list[dict[str, np.ndarray]],
    ) -> None:
        self.directory = directory
        self.name = directory.name
        self.manifest = manifest
        self.fingerprint = manifest["fingerprint"]
        self.shards = shards
        self._indices = indices
        self._ends = np.cumsum([shard.samples for shard in shards], dtype=np.int64)
        self._files = _OpenFiles()

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Dataset:
        """Open a finished dataset. ConfigError when it is missing, unfinished, or not what its manifest says.

        Sizes and counts of all shards and the checksums of all indices are compared here; the checksum of
        every member is compared when it is read. `python -m data_engine verify=DIR` compares everything.
        """
        path = Path(os.path.abspath(directory))
        manifest = _read_manifest(path)
        shards = [ShardRecord(**shard) for shard in manifest["shards"]]
        indices = [_read_index(path, shard) for shard in shards]
        count = sum(shard.samples for shard in shards)
        if count != manifest["samples"] or fingerprint_of(shards) != manifest["fingerprint"]:
            raise ConfigError(f"{path / MANIFEST_NAME} contradicts itself: {_REMEDY}.")
        if count == 0:
            raise ConfigError(f"the dataset {path} holds no sample: make it again with samples=1 or more.")
        return cls(path, manifest, shards, indices)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.directory,)  # another process opens it for itself

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, i: int) -> Sample:
        """Sample `i` with its encoded images. DamagedSampleError when a checksum does not match."""
        shard, index, row = self._locate(i)
        images = tuple(
            self._member(shard, index, row, "image", image)
            for image in range(index["image_start"][row], index["image_start"][row + 1])
        )
        return self._sample(shard, index, row, images)

    def read_text(self, i: int) -> Sample:
        """Sample `i` without its images: `images` is empty, `image_sizes` is known. No image is read."""
        shard, index, row = self._locate(i)
        return self._sample(shard, index, row, ())

    def image_sizes(self, i: int) -> tuple[tuple[int, int], ...]:
        """(width, height) of the images of sample `i`, from the index alone."""
        _, index, row = self._locate(i)
        start, end = index["image_start"][row : row + 2]
        widths, heights = index["image_width"][start:end], index["image_height"][start:end]
        return tuple(zip(widths.tolist(), heights.tolist(), strict=True))

    def text_lengths(self, i: int) -> tuple[int, int]:
        """Characters of prompt and response of sample `i`, from the index alone: a hint for packing."""
        _, index, row = self._locate(i)
        return int(index["prompt_chars"][row]), int(index["response_chars"][row])

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Images of many samples, from the index alone.

        Args:
            samples: sample numbers [n], in any order, repeated or not.

        Returns:
            How many images each sample has [n], and (width, height) of all of them in that order [m, 2].
        """
        rows, groups = self._grouped(samples)
        counts = np.zeros(len(rows), np.int64)
        for number, places in groups:
            counts[places] = np.diff(self._indices[number]["image_start"])[rows[places]]
        sizes = np.zeros((int(counts.sum()), 2), np.int32)
        starts = np.cumsum(counts) - counts
        for number, places in groups:
            index, many = self._indices[number], counts[places]
            within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            source = np.repeat(index["image_start"][rows[places]], many) + within
            target = np.repeat(starts[places], many) + within
            sizes[target, 0], sizes[target, 1] = index["image_width"][source], index["image_height"][source]
        return counts, sizes

    def text_lengths_of(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Characters of prompt and response of many samples [n, 2], from the index alone."""
        rows, groups = self._grouped(samples)
        lengths = np.zeros((len(rows), 2), np.int32)
        for number, places in groups:
            index = self._indices[number]
            lengths[places, 0] = index["prompt_chars"][rows[places]]
            lengths[places, 1] = index["response_chars"][rows[places]]
        return lengths

    def key(self, i: int) -> str:
        """The key of sample `i`, from the index alone."""
        _, index, row = self._locate(i)
        return index["key"][row].decode("ascii")

    def close(self) -> None:
        """Close the shards that are open. Reading afterwards opens them again."""
        self._files.clear()

    def _grouped(
        self, samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[tuple[int, NDArray[np.int64]]]]:
        """Rows of samples within their shards, and for each shard number the places of its samples."""
        samples = np.asarray(samples, np.int64)
        if samples.size and not 0 <= samples.min() <= samples.max() < len(self):
            raise IndexError(
                f"dataset {self.name} has samples 0 to {len(self) - 1}, and others were asked for"
            )
        numbers = np.searchsorted(self._ends, samples, side="right")
        starts = self._ends - np.array([shard.samples for shard in self.shards])
        order = np.argsort(numbers, kind="stable")
        present, first = np.unique(numbers[order], return_index=True)
        return samples - starts[numbers], list(
            zip(present.tolist(), np.split(order, first[1:]), strict=True)
        ) if samples.size else []

    def _locate(self, i: int) -> tuple[ShardRecord, dict[str, np.ndarray], int]:
        if not 0 <= i < len(self):
            raise IndexError(f"dataset {self.name} has samples 0 to {len(self) - 1}, and {i} was asked for")
        number = int(np.searchsorted(self._ends, i, side="right"))
        shard = self.shards[number]
        return shard, self._indices[number], i - int(self._ends[number]) + shard.samples

    def _sample(
        self, shard: ShardRecord, index: dict[str, np.ndarray], row: int, images: tuple[bytes, ...]
    ) -> Sample:
        key = index["key"][row].decode("ascii")
        data = self._member(shard, index, row, "json", row)
        try:
            return from_json(key, data, images)
        except ValueError as error:
            raise DamagedSampleError(f"sample {key} in {shard.name}.tar cannot be read: {error}.") from error

    def _member(
        self, shard: ShardRecord, index: dict[str, np.ndarray], row: int, part: str, place: int
    ) -> bytes:
        path = self.directory / f"{shard.name}.tar"
        offset, size = int(index[f"{part}_offset"][place]), int(index[f"{part}_size"][place])
        data = self._files.read(path, offset, size)
        if len(data) != size:
            problem = f"its {part} ends after {len(data)} of {size} bytes"
        elif zlib.crc32(data) != int(index[f"{part}_crc32"][place]):
            problem = f"the checksum of its {part} does not match"
        else:
            return data
        key = index["key"][row].decode("ascii")
        raise DamagedSampleError(
            f"sample {key} in {path} is damaged: {problem}; {_REMEDY}.", str(path), key, None, problem
        )


def open_datasets(directory: str | os.PathLike[str]) -> dict[str, Dataset]:
    """Name -> dataset: `directory` itself when it is one, else every sub-directory that is one.

    A sub-directory with shards and no manifest is an unfinished dataset and is refused rather than left out.
    """
    path = Path(os.path.abspath(directory))
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


class _OpenFile:
    """A file descriptor that closes itself when the last reader lets go of it."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = -1  # so that __del__ finds it when the next line fails
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _OpenFiles:
    """The shards that were read last, kept open: opening costs a round trip on a network file system."""

    LIMIT = 128

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        with self._lock:
            file = self._open.get(path)
            if file is None:
                try:
                    file = self._open[path] = _OpenFile(path)
                except OSError as error:
                    raise DamagedSampleError(f"{path} cannot be opened: {error.strerror}.") from error
            self._open.move_to_end(path)
            while len(self._open) > self.LIMIT:
                # Whoever still reads it holds the object, so it is closed no earlier than that.
                self._open.popitem(last=False)
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(file.descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def clear(self) -> None:
        with self._lock:
            self._open.clear()


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise ConfigError(f"the data directory {path} does not exist: make it with python -m data_engine.")
    manifest_path = path / MANIFEST_NAME
    try:
        manifest = json.loads(manifest_path.read_text("utf-8"))
        schema = manifest["schema"]
    except FileNotFoundError as error:
        state = "is unfinished: it has shards" if any(path.glob("*.tar")) else "is no dataset: no shards"
        raise ConfigError(
            f"the data directory {path} {state} and no {MANIFEST_NAME}: run the command that makes it (again)."
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{manifest_path} cannot be read ({error}): {_REMEDY}.") from error
    if schema != SCHEMA:
        raise ConfigError(f"{manifest_path} has schema {schema}, and this program reads schema {SCHEMA}.")
    needed = {"kind", "seed", "samples", "skipped", "shards", "fingerprint", "options", "versions"}
    if missing := needed - set(manifest):
        raise ConfigError(f"{manifest_path} lacks {', '.join(sorted(missing))}: {_REMEDY}.")
    return manifest


def _read_index(path: Path, shard: ShardRecord) -> dict[str, np.ndarray]:
    tar_path, index_path = path / f"{shard.name}.tar", path / f"{shard.name}.npz"
    for file in (tar_path, index_path):
        if not file.exists():
            raise ConfigError(f"{file} is missing and {MANIFEST_NAME} lists it: {_REMEDY}.")
    size = tar_path.stat().st_size
    if size != shard.bytes:
        raise ConfigError(f"{tar_path} has {size} bytes and {MANIFEST_NAME} says {shard.bytes}: {_REMEDY}.")
    if sha256_of(index_path) != shard.index_sha256:
        raise ConfigError(f"{index_path} does not match {MANIFEST_NAME} (sha256): {_REMEDY}.")
    try:
        with np.load(index_path, allow_pickle=False) as file:
            index = {name: file[name] for name in file.files}
        rows = len(index["key"])
        whole = rows == shard.samples and len(index["image_start"]) == rows + 1
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"{index_path} cannot be read ({error}): {_REMEDY}.") from error
    if not whole:
        raise ConfigError(
            f"{index_path} holds {rows} samples and {MANIFEST_NAME} says {shard.samples}: {_REMEDY}."
        )
    return index
