"""Writing shards: plain WebDataset tars, an index beside each, one manifest at the end.

    <kind>-000000.tar    USTAR, integer mtime 0, dot-free keys: `webdataset`, energon and HF datasets read it
    <kind>-000000.npz    where every member lies, its size and CRC-32; what a reader wants to know in advance
    skipped.jsonl        index, reason and place of every sample that was left out, if any was
    dataset.index        the same of all shards in one file, which is what a reader opens
    manifest.json        written last: a directory without it is not finished

A tar has no checksum of its content and a truncated one is read without complaint, hence the index. It is
renamed into place after its tar, so an index that exists speaks of a whole tar.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_engine.files import atomic_write_json, atomic_writer, sha256_of
from data_engine.manifest import MANIFEST_NAME, canonical_json, fingerprint_of
from data_engine.sample import SCHEMA, Sample, check_sample, image_members, to_json
from data_engine.shard_index import (
    LARGEST_MEMBER,
    FinishedShard,
    ShardIndex,
    ShardRecord,
    Skipped,
    read_finished,
    write_dataset_index,
)

__all__ = [
    "MANIFEST_NAME",
    "FinishedShard",
    "ShardRecord",
    "Skipped",
    "canonical_json",
    "find_finished",
    "fingerprint_of",
    "tar_header",
    "write_manifest",
    "write_shard",
]

_BLOCK = 512


def write_shard(
    directory: Path, name: str, samples: Iterable[Sample | Skipped], configuration: dict[str, Any]
) -> ShardRecord:
    """Write `<name>.tar` and `<name>.npz`; the same samples give the same bytes.

    `configuration` is all that the shard's content follows from; it goes into the index, so that a later run
    knows whether this shard is the one it wants. Raises OSError (no space left); nothing is left behind then.
    """
    index = ShardIndex()
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
                index.add_image(add_member(f"{sample.key}.{member}", data), data, size, image_format)
            record = to_json(sample)
            offset = add_member(f"{sample.key}.json", record)
            index.end_sample(sample.key, offset, record, (len(sample.prompt), len(sample.response)))
        write(bytes(2 * _BLOCK))
    return index.write(
        directory / f"{name}.npz",
        tar_bytes=position,
        tar_sha256=digest.hexdigest(),
        configuration=configuration,
        skipped=skipped,
    )


def tar_header(name: str, size: int) -> bytes:
    """A USTAR header of a plain file: fixed owner, mode and time, so that equal content is equal bytes."""
    encoded = name.encode("ascii")
    if len(encoded) > 100:
        raise ValueError(f"the member name {name} is longer than the 100 bytes that a tar header holds.")
    if size >= LARGEST_MEMBER:
        raise ValueError(f"the member {name} has {size} bytes, more than an index can say.")
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


def find_finished(directory: Path, name: str) -> FinishedShard | None:
    """The finished shard of this name, or None when it is absent, half there or damaged."""
    tar_path = directory / f"{name}.tar"
    finished = read_finished(directory, name)
    try:
        if finished is None or tar_path.stat().st_size != finished.record.bytes:
            return None
        return finished if sha256_of(tar_path) == finished.record.sha256 else None
    except OSError:
        return None


def write_manifest(
    directory: Path,
    *,
    kind: str,
    seed: int,
    shards: list[ShardRecord],
    skipped: Iterable[Skipped],
    options: dict[str, Any],
    versions: dict[str, str],
    **further: Any,
) -> dict[str, Any]:
    """Write dataset.index and manifest.json, the last files of a dataset, and return the manifest."""
    manifest = {
        "schema": SCHEMA,
        "kind": kind,
        "seed": seed,
        "samples": sum(shard.samples for shard in shards),
        "skipped": dict(sorted(Counter(skip.reason for skip in skipped).items())),
        "shards": [asdict(shard) for shard in shards],
        "fingerprint": fingerprint_of(shards, further.get("convention")),
        "options": options,
        "versions": versions,
        **further,
    }
    write_dataset_index(directory, manifest)
    atomic_write_json(directory / MANIFEST_NAME, manifest)
    return manifest
