"""The index of one shard, NAME.npz: written after its tar, the sign that the tar is whole; and all of them in one.

Columns: key, json_offset, json_size, json_xxh3, prompt_chars, response_chars per sample (the text of a foreign
sample may be another member than a .json); image_start (one more than samples), then image_offset, image_size,
image_xxh3, image_width, image_height, image_format per image. Older ones have json_crc32 and image_crc32.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import xxhash
from numpy.typing import NDArray

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_bytes, atomic_writer, sha256_of
from data_engine.index_file import (
    COLUMNS,
    CRC32,
    IMAGE,
    INDEX_NAME,
    TEXT,
    XXH3,
    IndexFile,
    IndexHead,
    spans,
    write_index,
)
from data_engine.manifest import (
    MANIFEST_NAME,
    REMEDY,
    ShardRecord,
    canonical_json,
    manifest_content,
    shards_of,
)
from data_engine.sample import IMAGE_FORMATS
from data_engine.storage import Storage, storage_at

Columns = dict[str, NDArray[Any]]
LARGEST_MEMBER = 1 << 32
"""Bytes; sizes have 32 bits in dataset.index."""


@dataclass(frozen=True)
class Skipped:
    """A sample that by rule does not exist."""

    index: int
    reason: str
    """A short, countable reason: "invalid SMILES"."""
    place: str
    """Where the user finds the cause: "line 17 of molecules.smi: C1CC"."""


@dataclass(frozen=True)
class FinishedShard:
    """A shard found on the disk: its index is there and its tar is the one that the index speaks of."""

    record: ShardRecord
    configuration: dict[str, Any]
    skipped: list[Skipped]
    unused: dict[str, int] = field(default_factory=dict)
    """Extension -> members that no sample has a use for, in tars that others wrote."""


_TYPES: dict[str, Any] = {
    "json_offset": np.int64,
    "json_size": np.int64,
    "json_xxh3": np.uint64,
    "image_start": np.int64,
    "image_offset": np.int64,
    "image_size": np.int64,
    "image_xxh3": np.uint64,
    "image_width": np.int32,
    "image_height": np.int32,
    "image_format": np.uint8,
    "prompt_chars": np.int32,
    "response_chars": np.int32,
}


@dataclass
class ShardIndex:
    """The columns of one shard's index while it grows: the images of a sample, then `end_sample`."""

    keys: list[bytes] = field(default_factory=list)
    columns: dict[str, list[int]] = field(
        default_factory=lambda: {name: [0] if name == "image_start" else [] for name in _TYPES}
    )

    def add_image(self, offset: int, data: bytes, size: tuple[int, int], image_format: str) -> None:
        """An image of the sample that ends next, `size` (width, height)."""
        self._append(
            image_offset=offset,
            image_size=len(data),
            image_xxh3=xxhash.xxh3_64_intdigest(data),
            image_width=size[0],
            image_height=size[1],
            image_format=IMAGE_FORMATS.index(image_format),
        )

    def end_sample(self, key: str, offset: int, text: bytes, characters: tuple[int, int]) -> None:
        """The text of a sample; `characters` of its prompt and response."""
        self.keys.append(key.encode("utf-8"))
        self._append(
            json_offset=offset,
            json_size=len(text),
            json_xxh3=xxhash.xxh3_64_intdigest(text),
            image_start=len(self.columns["image_offset"]),
            prompt_chars=characters[0],
            response_chars=characters[1],
        )

    def _append(self, **values: int) -> None:
        for name, value in values.items():
            self.columns[name].append(value)

    def write(
        self,
        path: Path,
        *,
        tar_bytes: int,
        tar_sha256: str,
        configuration: dict[str, Any],
        skipped: list[Skipped],
        unused: dict[str, int] | None = None,
    ) -> ShardRecord:
        """Write NAME.npz and return what the manifest says of the shard."""
        arrays = {"key": np.array(self.keys, dtype=np.bytes_)}
        arrays |= {name: np.array(self.columns[name], dtype) for name, dtype in _TYPES.items()}
        arrays["tar_bytes"] = np.array(tar_bytes, np.int64)
        arrays["tar_sha256"] = np.array(tar_sha256)
        arrays["configuration"] = np.array(canonical_json(configuration))
        arrays["skipped"] = np.array(canonical_json([asdict(skip) for skip in skipped]))
        if unused is not None:
            arrays["unused"] = np.array(canonical_json(unused))
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        atomic_write_bytes(path, buffer.getvalue())
        index_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        return ShardRecord(path.stem, len(self.keys), tar_bytes, tar_sha256, index_sha256)


def read_finished(directory: Path, name: str) -> FinishedShard | None:
    """What NAME.npz says, or None when it is absent or damaged. The tar is not looked at."""
    path = directory / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as index:
            size, sha256 = int(index["tar_bytes"]), str(index["tar_sha256"])
            configuration = json.loads(str(index["configuration"]))
            skipped = [Skipped(**skip) for skip in json.loads(str(index["skipped"]))]
            unused = json.loads(str(index["unused"])) if "unused" in index else {}
            samples = len(index["key"])
        record = ShardRecord(name, samples, size, sha256, sha256_of(path))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, BadZipFile):
        return None
    return FinishedShard(record, configuration, skipped, unused)


def read_shard_index(storage: Storage, shard: ShardRecord) -> Columns:
    """The columns of a shard's index, compared with the manifest. ConfigError when they are not what it says."""
    path = storage.path(f"{shard.name}.npz")
    try:
        data = storage.read_whole(f"{shard.name}.npz")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing and {MANIFEST_NAME} lists it: {REMEDY}.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}): {REMEDY}.") from error
    if hashlib.sha256(data).hexdigest() != shard.index_sha256:
        raise ConfigError(f"{path} does not match {MANIFEST_NAME} (sha256): {REMEDY}.")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            older = {"json_xxh3": "json_crc32", "image_xxh3": "image_crc32"} if "json_crc32" in file else {}
            columns = {name: file[name] for name in ("key", *(older.get(name, name) for name in _TYPES))}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read ({error}): {REMEDY}.") from error
    rows = len(columns["key"])
    if rows != shard.samples or len(columns["image_start"]) != rows + 1:
        raise ConfigError(f"{path} holds {rows} samples and {MANIFEST_NAME} says {shard.samples}: {REMEDY}.")
    return columns


def write_dataset_index(directory: Path, manifest: dict[str, Any]) -> None:
    """Write dataset.index from the indices of the shards, in bounded memory."""
    storage = storage_at(directory)
    with atomic_writer(directory / INDEX_NAME) as file:
        join_shard_indices(file, manifest, lambda shard: read_shard_index(storage, shard))


def join_shard_indices(
    file: BinaryIO, manifest: dict[str, Any], columns_of: Callable[[ShardRecord], Columns]
) -> None:
    """Write the indices of all shards as one file. Every shard is asked for its columns once per column."""
    shards = shards_of(manifest)
    columns_of = lru_cache(maxsize=256)(columns_of)  # a small dataset is read once
    images = [0]
    key_bytes = [0]
    for shard in shards:
        columns = columns_of(shard)
        images.append(images[-1] + len(columns["image_offset"]))
        key_bytes.append(key_bytes[-1] + int(np.char.str_len(columns["key"]).sum()))
    head = IndexHead(manifest_content(manifest), manifest["samples"], images[-1], key_bytes[-1])

    def rows_of(name: str) -> Iterator[NDArray[Any]]:
        for shard, image_start, key_start in zip(shards, images, key_bytes, strict=False):
            yield _rows(name, columns_of(shard), image_start, key_start)

    write_index(file, head, rows_of)


@dataclass(frozen=True)
class Starts:
    """How many rows of each sort the shards before this one have."""

    samples: int = 0
    images: int = 0
    key_bytes: int = 0


def compare_with_joint(index: IndexFile, columns: Columns, starts: Starts, name: str) -> Starts:
    """Compare the index of a shard with its part of dataset.index. ConfigError when they differ.

    Returns where the next shard starts.
    """
    counts = {}
    for column, (_, sort) in COLUMNS.items():
        rows = _rows(column, columns, starts.images, starts.key_bytes)
        if index.rows(column, getattr(starts, sort), len(rows)).tobytes() != rows.tobytes():
            raise ConfigError(f"{index.name} and {name}.npz contradict each other in {column}: {REMEDY}.")
        counts[sort] = getattr(starts, sort) + len(rows)
    return Starts(**counts)


def _rows(name: str, columns: Columns, image_start: int, key_start: int) -> NDArray[Any]:
    """The rows of one column of dataset.index that come from one shard."""
    if name == "images":
        return spans(np.diff(columns["image_start"]), image_start)
    if name == "lengths":
        return np.stack([columns["prompt_chars"], columns["response_chars"]], axis=1)
    if name == "image_sizes":
        return np.stack([columns["image_width"], columns["image_height"]], axis=1)
    if name == "texts":
        parts = _parts(columns, "json", TEXT)
        parts["key"] = spans(np.char.str_len(columns["key"]).astype(np.int64), key_start)
        return parts
    if name == "image_parts":
        parts = _parts(columns, "image", IMAGE)
        for field_name in ("width", "height", "format"):
            parts[field_name] = columns[f"image_{field_name}"]
        return parts
    return np.frombuffer(b"".join(columns["key"].tolist()), np.uint8)


def _parts(columns: Columns, prefix: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    parts = np.zeros(len(columns[f"{prefix}_offset"]), dtype)
    parts["offset"], parts["size"] = columns[f"{prefix}_offset"], columns[f"{prefix}_size"]
    older = f"{prefix}_crc32" in columns
    parts["checked_by"] = CRC32 if older else XXH3
    parts["checksum"] = columns[f"{prefix}_crc32" if older else f"{prefix}_xxh3"]
    return parts
