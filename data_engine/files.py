"""Files that are either whole or not there.

Everything this project leaves on a disk goes through here: it is written under a temporary name in the
same directory, flushed to the disk, and renamed. A reader never meets half a file, and a full disk leaves
nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY_SUFFIX = ".tmp"


def temporary_name(path: Path) -> Path:
    """The name under which `path` is written before it is whole: hidden, and unique to this process.

    Of all machines, too: on a shared file system two of them may have processes of the same number.
    """
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}{TEMPORARY_SUFFIX}")


@contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that appears as `path` when the block ends well, and vanishes when it does not.

    Raises OSError as the file system reports it, "no space left" among others; the temporary file is
    removed then.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    with atomic_writer(path) as file:
        file.write(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as readable JSON with sorted keys. NaN and infinity are refused: JSON has none."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporaries(directory: Path, names: Iterable[str] | None = None) -> None:
    """Remove what killed writers left in `directory`: all of it, or of the files that are called `names` and a suffix.

    Only the one owner of the directory, or of these files, may call this.
    """
    owned = None if names is None else set(names)
    for path in directory.glob(f".*{TEMPORARY_SUFFIX}"):
        if owned is None or path.name.split(".")[1] in owned:
            with suppress(FileNotFoundError):
                path.unlink()


def _sync_directory(directory: Path) -> None:
    # A rename is durable only when its directory is flushed too; some network file systems refuse that.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
