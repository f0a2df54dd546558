"""Where files of a dataset lie: a directory, or a URL of anything that fsspec knows (s3://, gs://, http://, ...).

A reader needs little: bytes of a file by position. On a local disk that is `os.pread`, which threads and forked
processes may share. Elsewhere it is a range request, tried again a few times when it fails; credentials are
left to fsspec's own configuration (its files in ~/.config/fsspec, or the environment of the cloud's client).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from data_engine.errors import ConfigError

T = TypeVar("T")
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.2
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class Storage(Protocol):
    """A directory of files. Every method raises OSError, whose text names the file."""

    location: str
    """Path or URL of the directory."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer where the file ends before."""
        ...

    def read_whole(self, name: str) -> bytes:
        """All bytes of a file."""
        ...

    def size(self, name: str) -> int:
        """In bytes."""
        ...

    def names(self) -> list[str]:
        """The files of the directory, sorted."""
        ...

    def identity(self, name: str) -> str:
        """A short text that changes when the file is written again, without reading it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """For reading from the beginning to the end."""
        ...

    def path(self, name: str) -> str:
        """Full path or URL."""
        ...

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        ...


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether it is a URL and not a path."""
    return "://" in os.fspath(location)


def storage_at(location: str | os.PathLike[str]) -> Storage:
    """The storage of a path or URL. ConfigError when the URL's protocol is unknown or its client is missing."""
    return RemoteStorage(os.fspath(location)) if is_url(location) else LocalStorage(location)


class _OpenFile:
    """A file descriptor that closes itself when the last reader lets go of it."""

    __slots__ = ("descriptor", "size")

    def __init__(self, path: Path) -> None:
        self.descriptor = -1  # so that __del__ finds it when the next line fails
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class LocalStorage:
    """A directory, as a `Storage`.

    The files read last stay open: opening costs a round trip on a network file system.
    """

    OPEN_FILES = 128

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(os.path.abspath(directory))
        self.location = str(self.directory)
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()

    def read(self, name: str, offset: int, size: int) -> bytes:
        file = self._file(name)  # held, so that it is not closed under the read
        parts = [os.pread(file.descriptor, size, offset)]
        while parts[-1] and (missing := size - sum(map(len, parts))) > 0:
            parts.append(os.pread(file.descriptor, missing, offset + size - missing))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_whole(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def size(self, name: str) -> int:
        """As it was when the file was opened: what is open stays readable when its name is given to another."""
        return self._file(name).size

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def identity(self, name: str) -> str:
        status = os.stat(self.directory / name)
        return f"{status.st_size} bytes, changed at {status.st_mtime_ns}"

    def open(self, name: str) -> BinaryIO:
        return open(self.directory / name, "rb", buffering=1 << 20)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def close(self) -> None:
        with self._lock:
            self._open.clear()

    def _file(self, name: str) -> _OpenFile:
        if os.getpid() != self._process:
            self._start()  # after a fork: a thread that is not here may have held the lock
        with self._lock:
            file = self._open.get(name)
            if file is None:
                file = self._open[name] = _OpenFile(self.directory / name)
                while len(self._open) > self.OPEN_FILES:
                    self._open.popitem(last=False)  # whoever still reads it holds the object
            else:
                self._open.move_to_end(name)
        return file


class RemoteStorage:
    """A URL, as a `Storage`. Failures that may pass are tried again, `ATTEMPTS` times in all with growing pauses."""

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        self._process = -1
        self._files()

    def read(self, name: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""  # object stores refuse an empty range
        return self._tried(name, lambda: self._files().cat_file(self._key(name), offset, offset + size))

    def read_whole(self, name: str) -> bytes:
        return self._tried(name, lambda: self._files().cat_file(self._key(name)))

    def size(self, name: str) -> int:
        return int(self._tried(name, lambda: self._files().size(self._key(name))))

    def names(self) -> list[str]:
        found = self._tried("", lambda: self._files().ls(self._key(""), detail=False, refresh=True))
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def identity(self, name: str) -> str:
        return str(self._tried(name, lambda: self._files().ukey(self._key(name))))

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", self._tried(name, lambda: self._files().open(self._key(name), "rb")))

    def path(self, name: str) -> str:
        return f"{self.location}/{name}" if name else self.location

    def close(self) -> None:
        self._process = -1

    def _key(self, name: str) -> str:
        return self._stripped + ("/" + name if name else "")

    def _files(self) -> Any:
        """The file system object of this process: its connections must not be shared with a forked one."""
        if self._process != os.getpid():
            import fsspec

            try:
                self._system, self._stripped = fsspec.core.url_to_fs(self.location)
            except (ValueError, ImportError) as error:
                raise ConfigError(f"{self.location} cannot be read: {_first_line(error)}.") from error
            self._stripped = self._stripped.rstrip("/")
            self._process = os.getpid()
        return self._system

    def _tried(self, name: str, action: Callable[[], T]) -> T:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except _PERMANENT as error:
                raise type(error)(f"{self.path(name)}: {_first_line(error)}") from error
            except (ConfigError, TypeError, AttributeError, NameError):
                raise  # a mistake of the user's or of ours, which waiting does not mend
            # Clients of object stores raise their own exceptions, which fsspec does not always translate.
            except Exception as error:
                if attempt == ATTEMPTS:
                    raise OSError(
                        f"{self.path(name)} could not be read in {ATTEMPTS} attempts: {_first_line(error)}"
                    ) from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
