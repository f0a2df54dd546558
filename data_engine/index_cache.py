"""dataset.index of a remote dataset, fetched once: into $DATA_ENGINE_CACHE, else ~/.cache/deepseek-ocr-train.

A file is named by the content of the manifest, so a dataset that changes gets another file, and old ones may be
removed at any time. On a cluster give every node a directory on its own disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from data_engine.errors import ConfigError
from data_engine.files import atomic_writer
from data_engine.index_file import INDEX_NAME
from data_engine.storage import LocalStorage, Storage

T = TypeVar("T")
ENVIRONMENT = "DATA_ENGINE_CACHE"


def cache_directory() -> Path:
    """Where copies lie; it need not exist."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".cache" / "deepseek-ocr-train")


def cached_copy(remote: Storage, name: str, open_copy: Callable[[LocalStorage, str], T]) -> T:
    """`open_copy` of the local copy of the remote index; a damaged copy is fetched again, once.

    Raises FileNotFoundError when there is none, OSError, and what `open_copy` raises.
    """
    local = LocalStorage(cache_directory())
    path = local.directory / name
    if path.exists():
        try:
            return open_copy(local, name)
        except ConfigError:
            local.close()
    local.directory.mkdir(parents=True, exist_ok=True)
    with remote.open(INDEX_NAME) as source, atomic_writer(path) as target:
        shutil.copyfileobj(source, target, 1 << 22)
    return open_copy(local, name)
