"""Writing shards: plain WebDataset tars, an index beside each, one manifest at the end.

    <kind>-000000.tar    USTAR, integer mtime 0, dot-free keys: `webdataset`, energon and HF datasets read it
    <kind>-000000.npz    where every member lies, its size and CRC-32; what a reader wants to know in advance
    manifest.json        written last: a directory without it is not finished

A tar has no checksum of its content and a truncated one is read without complaint, hence the index. It is
renamed into place after its tar, so an index that exists speaks of a whole tar.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from data_engine.files import atomic_write_bytes, atomic_write_json, atomic_writer, sha256_of
from data_engine.sample import IMAGE_FORMATS, SCHEMA, Sample, check_sample, image_members, to_json

MANIFEST_NAME = "manifest.json"
_BLOCK = 512


@dataclass(frozen=True)
class Skipped:
    """A sample that by rule does not exist."""

    index: int
    reason: str
    """A short, countable reason: "invalid SMILES"."""
    place: str
    """Where the user finds the cause: "line 17 of molecules.smi: C1CC"."""


@dataclass(frozen=True)
class ShardRecord:
    """What the manifest says of one shard."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@dataclass
class _Index:
    """The columns of one shard's index while it grows."""

    key: list[bytes] = field(default_factory=list)
    json_offset: list[int] = field(default_factory=list)
    json_size: list[int] = field(default_factory=list)
    json_crc32: list[int] = field(default_factory=list)
    image_start: list[int] = field(default_factory=lambda: [0])
    image_offset: list[int] = field(default_factory=list)
    image_size: list[int] = field(default_factory=list)
    image_crc32: list[int] = field(default_factory=list)
    image_width: list[int] = field(default_factory=list)
    image_height: list[int] = field(default_factory=list)
    image_format: list[int] = field(default_factory=list)
    prompt_chars: list[int] = field(default_factory=list)
    response_chars: list[int] = field(default_factory=list)

    TYPES = {  # noqa: RUF012 - a constant, not a field
        "json_offset": np.int64,
        "json_size": np.int64,
        "json_crc32": np.uint32,
        "image_start": np.int64,
        "image_offset": np.int64,
        "image_size": np.int64,
        "image_crc32": np.uint32,
        "image_width": np.int32,
        "image_height": np.int32,
        "image_format": np.uint8,
        "prompt_chars": np.int32,
        "response_chars": np.int32,
    }

    def arrays(self) -> dict[str, np.ndarray]:
        columns = {name: np.array(getattr(self, name), dtype) for name, dtype in self.TYPES.items()}
        return {"key": np.array(self.key, dtype=np.bytes_), **columns}


def write_shard(
    directory: Path, name: str, samples: Iterable[Sample | Skipped], configuration: dict[str, Any]
) -> ShardRecord:
    """Write `<name>.tar` and `<name>.npz`; the same samples give the same bytes.

    `configuration` is all that the shard's content follows from; it goes into the index, so that a later run
    knows whether this shard is the one it wants. Raises OSError (no space left); nothing is left behind then.
    """
    index = _Index()
    skipped: list[Skipped] = []
    tar_path = directory / f"{name}.tar"
    digest = hashlib.sha256()
    position = 0
    with atomic_writer(tar_path) as file:

        def write(data: bytes) -> None:
            nonlocal position
            file.write(data)
            digest.update(data)
            position += len(data)

        def add_member(member: str, data: bytes) -> int:
            write(tar_header(member, len(data)))
            offset = position
            write(data)
            write(bytes(-len(data) % _BLOCK))
            return offset

        for sample in samples:
            if isinstance(sample, Skipped):
                skipped.append(sample)
                continue
            check_sample(sample)
            for member, data, size, image_format in zip(
                image_members(sample), sample.images, sample.image_sizes, sample.image_formats, strict=True
            ):
                index.image_offset.append(add_member(f"{sample.key}.{member}", data))
                index.image_size.append(len(data))
                index.image_crc32.append(zlib.crc32(data))
                index.image_width.append(size[0])
                index.image_height.append(size[1])
                index.image_format.append(IMAGE_FORMATS.index(image_format))
            record = to_json(sample)
            index.key.append(sample.key.encode("ascii"))
            index.json_offset.append(add_member(f"{sample.key}.json", record))
            index.json_size.append(len(record))
            index.json_crc32.append(zlib.crc32(record))
            index.image_start.append(len(index.image_offset))
            index.prompt_chars.append(len(sample.prompt))
            index.response_chars.append(len(sample.response))
        write(bytes(2 * _BLOCK))
    arrays = index.arrays()
    arrays["tar_bytes"] = np.array(position, np.int64)
    arrays["tar_sha256"] = np.array(digest.hexdigest())
    arrays["configuration"] = np.array(canonical_json(configuration))
    arrays["skipped"] = np.array(canonical_json([asdict(skip) for skip in skipped]))
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    atomic_write_bytes(directory / f"{name}.npz", buffer.getvalue())
    return ShardRecord(
        name=name,
        samples=len(index.key),
        bytes=position,
        sha256=digest.hexdigest(),
        index_sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
    )


def tar_header(name: str, size: int) -> bytes:
    """A USTAR header of a plain file: fixed owner, mode and time, so that equal content is equal bytes."""
    encoded = name.encode("ascii")
    if len(encoded) > 100:
        raise ValueError(f"the member name {name} is longer than the 100 bytes that a tar header holds.")
    if size >= 8**11:
        raise ValueError(f"the member {name} has {size} bytes, more than a tar header can say.")
    header = bytearray(_BLOCK)
    header[0 : len(encoded)] = encoded
    header[100:108] = b"0000444\0"  # mode: read only
    header[108:116] = header[116:124] = b"0000000\0"  # user, group
    header[124:136] = b"%011o\0" % size
    header[136:148] = b"%011o\0" % 0  # time of change
    header[148:156] = b" " * 8  # the checksum counts itself as blanks
    header[156:157] = b"0"  # a plain file
    header[257:265] = b"ustar\00000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@dataclass(frozen=True)
class FinishedShard:
    """A shard found on the disk: its index is there and its tar is the one that the index speaks of."""

    record: ShardRecord
    configuration: dict[str, Any]
    skipped: list[Skipped]


def find_finished(directory: Path, name: str) -> FinishedShard | None:
    """The finished shard of this name, or None when it is absent, half there or damaged."""
    tar_path, index_path = directory / f"{name}.tar", directory / f"{name}.npz"
    try:
        with np.load(index_path, allow_pickle=False) as index:
            size, sha256 = int(index["tar_bytes"]), str(index["tar_sha256"])
            configuration = json.loads(str(index["configuration"]))
            skipped = [Skipped(**skip) for skip in json.loads(str(index["skipped"]))]
            samples = len(index["key"])
        if tar_path.stat().st_size != size or sha256_of(tar_path) != sha256:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, BadZipFile):
        return None
    record = ShardRecord(name, samples, size, sha256, sha256_of(index_path))
    return FinishedShard(record, configuration, skipped)


def write_manifest(
    directory: Path,
    *,
    kind: str,
    seed: int,
    shards: list[ShardRecord],
    skipped: list[Skipped],
    options: dict[str, Any],
    versions: dict[str, str],
) -> dict[str, Any]:
    """Write manifest.json, the last file of a dataset, and return it."""
    manifest = {
        "schema": SCHEMA,
        "kind": kind,
        "seed": seed,
        "samples": sum(shard.samples for shard in shards),
        "skipped": dict(sorted(Counter(skip.reason for skip in skipped).items())),
        "shards": [asdict(shard) for shard in shards],
        "fingerprint": fingerprint_of(shards),
        "options": options,
        "versions": versions,
    }
    atomic_write_json(directory / MANIFEST_NAME, manifest)
    return manifest


def fingerprint_of(shards: Iterable[ShardRecord]) -> str:
    """One short name for the content of a dataset: equal exactly when all shards are equal."""
    content = [[shard.name, shard.samples, shard.sha256] for shard in shards]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
