"""manifest.json: what a finished dataset consists of. Written last, so a directory without it is not finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from data_engine.errors import ConfigError
from data_engine.sample import SCHEMA
from data_engine.storage import Storage

MANIFEST_NAME = "manifest.json"
REMEDY = "make the dataset again, or copy it again from where it is whole"
_FIELDS = {"kind", "seed", "samples", "skipped", "shards", "fingerprint", "options", "versions"}


@dataclass(frozen=True)
class ShardRecord:
    """What the manifest says of one shard."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


def shards_of(manifest: dict[str, Any]) -> list[ShardRecord]:
    return [ShardRecord(**shard) for shard in manifest["shards"]]


def read_manifest(storage: Storage) -> dict[str, Any]:
    """The manifest of the dataset at a place. ConfigError when there is none or it contradicts itself."""
    path = storage.path(MANIFEST_NAME)
    try:
        manifest = json.loads(storage.read_whole(MANIFEST_NAME))
        schema = manifest["schema"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(_no_manifest(storage)) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): {REMEDY}.") from error
    if schema != SCHEMA:
        raise ConfigError(f"{path} has schema {schema}, and this program reads schema {SCHEMA}.")
    if missing := _FIELDS - set(manifest):
        raise ConfigError(f"{path} lacks {', '.join(sorted(missing))}: {REMEDY}.")
    try:
        shards = shards_of(manifest)
        whole = (
            sum(shard.samples for shard in shards) == manifest["samples"]
            and fingerprint_of(shards, manifest.get("convention")) == manifest["fingerprint"]
        )
    except TypeError as error:
        raise ConfigError(f"{path} cannot be read ({error}): {REMEDY}.") from error
    if not whole:
        raise ConfigError(f"{path} contradicts itself: {REMEDY}.")
    return manifest


def _no_manifest(storage: Storage) -> str:
    try:
        shards = any(name.endswith(".tar") for name in storage.names())
    except OSError:
        return f"the data directory {storage.location} does not exist: make it with python -m data_engine."
    if not shards:
        return f"the data directory {storage.location} is no dataset: no shards and no {MANIFEST_NAME}."
    return (
        f"the data directory {storage.location} is unfinished: it has shards and no {MANIFEST_NAME}: run the command "
        "that makes it (again), or python -m data_engine index=DIR for tars from elsewhere."
    )


def manifest_content(manifest: dict[str, Any]) -> str:
    """One short name for all that a manifest says; where tars lie is not part of it, they may be moved."""
    content = {name: value for name, value in manifest.items() if name != "tars"}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def fingerprint_of(shards: Iterable[ShardRecord], convention: dict[str, Any] | None = None) -> str:
    """One short name for the content of a dataset: equal exactly when all shards are, and what is made of them."""
    content: list[Any] = [[shard.name, shard.samples, shard.sha256] for shard in shards]
    if convention is not None:
        content.append(convention)
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
