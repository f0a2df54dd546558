"""Which pages there are: every PDF of a directory or a list, with its pages and hash, found out once.

The listing is kept in the user's cache directory, so that workers and later runs read it instead of opening a
million files again. It is keyed by the paths, sizes and times of all files: a changed file makes a new listing. One
with a file that is there and could not be read is not kept, since that may pass and leaves size and time as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_bytes, sha256_of
from data_engine.sample import printable
from data_engine.sources.pdf_forms import drawn_by_forms

PASSWORD = "password-protected PDF"
BROKEN = "broken PDF"
EMPTY = "PDF without pages"
TOO_LARGE = "PDF larger than options.largest_megabytes"
UNREADABLE = "unreadable PDF"
TOO_COMPLEX = "PDF too complex"
_VERSION = 1
"""Raised whenever `_inspect` says something else of the same file."""
_NOT_THERE = [-1, -1]
_MOST_DRAWN = 2_000_000  # operations: seconds to open


@dataclass(frozen=True)
class PdfFile:
    """One PDF. A bad one has no page, and why; it still takes one place in the order, so that it is counted."""

    path: str
    """Relative to the directory of the listing."""
    pages: int
    sha256: str
    problem: str = ""

    @property
    def name(self) -> str:
        """Its path for people and records: bytes of it that are no Unicode are spelled out."""
        return printable(self.path)


class Listing:
    """All pages of all files, in the order of the files' paths."""

    def __init__(self, root: Path, files: list[PdfFile]) -> None:
        self.root = root
        self.files = files
        self._ends = list(accumulate(max(1, file.pages) for file in files))

    def __len__(self) -> int:
        """Places: the pages of good files, and one for every bad file."""
        return self._ends[-1]

    def place(self, number: int) -> tuple[PdfFile, int]:
        """(file, page from 0) of a place."""
        low, high = 0, len(self._ends) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if number < self._ends[middle] else (middle + 1, high)
        return self.files[low], number - (self._ends[low - 1] if low else 0)

    def sha256(self) -> str:
        """Of the content of all files: where they lie does not count, their order does."""
        content = [[file.path, file.pages, file.sha256, file.problem] for file in self.files]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def open_listing(source: str, largest_megabytes: float) -> Listing:
    """The listing of a directory or of a file that names PDFs. ConfigError when there is none to name."""
    root, paths = _found(Path(source))
    if not paths:
        raise ConfigError(f"options.source={source} holds no PDF: give a directory or a list with some.")
    states = [_state(root / path) for path in paths]
    content = [_VERSION, str(root.resolve()), paths, states, largest_megabytes]
    key = hashlib.sha256(json.dumps(content).encode())
    cached = _cache_directory() / f"pdf-{key.hexdigest()[:32]}.json"
    files = _read_cache(cached, paths)
    if files is None:
        files = [_inspect(root, path, largest_megabytes) for path in paths]
        if not any(
            file.problem == UNREADABLE and state != _NOT_THERE
            for file, state in zip(files, states, strict=True)
        ):
            _write_cache(cached, files)
    return Listing(root, files)


def _found(source: Path) -> tuple[Path, list[str]]:
    try:
        if source.is_dir():
            found = (path for path in source.rglob("*") if path.suffix.lower() == ".pdf" and path.is_file())
            return source, sorted(path.relative_to(source).as_posix() for path in found)
        lines = source.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"options.source={source} cannot be read: {reason}.") from error
    return source.parent, [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _state(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return _NOT_THERE
    return [found.st_size, found.st_mtime_ns]


def _inspect(root: Path, path: str, largest_megabytes: float) -> PdfFile:
    import pypdfium2

    file = root / path
    try:
        if file.stat().st_size > largest_megabytes * 1e6:
            return PdfFile(path, 0, "", TOO_LARGE)
        digest = sha256_of(file)
        if drawn_by_forms(file, _MOST_DRAWN) > _MOST_DRAWN:
            return PdfFile(path, 0, digest, TOO_COMPLEX)
        document = pypdfium2.PdfDocument(file)
    except OSError:
        return PdfFile(path, 0, "", UNREADABLE)
    except pypdfium2.PdfiumError as error:
        return PdfFile(path, 0, digest, problem_of(error, file))
    try:
        pages = len(document)
    finally:
        document.close()
    return PdfFile(path, pages, digest, "" if pages else EMPTY)


def problem_of(error: Exception, file: Path) -> str:
    """Why pdfium refused a document.

    It keeps its last error, and some failures set none: a password is believed only of a file that is encrypted.
    """
    if "password" in str(error).lower() or "security" in str(error).lower():
        try:
            return PASSWORD if b"/Encrypt" in file.read_bytes() else BROKEN
        except OSError:
            return UNREADABLE
    return BROKEN


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "data_engine"


def _read_cache(cached: Path, paths: list[str]) -> list[PdfFile] | None:
    try:
        records: Any = json.loads(cached.read_bytes())
        files = [PdfFile(**record) for record in records]
    except (OSError, ValueError, TypeError):
        return None
    return files if [file.path for file in files] == paths else None


def _write_cache(cached: Path, files: list[PdfFile]) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(cached, json.dumps([asdict(file) for file in files]).encode())
    except OSError:
        return  # a read-only home: the next process looks again
