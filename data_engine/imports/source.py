"""What lies at the path that is to be imported: its format, its records in pieces of one shard, and their fields."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from data_engine.errors import ConfigError, nearest, one_of
from data_engine.foreign import UnusableError
from data_engine.imports.options import FORMATS, ImportOptions
from data_engine.imports.parts import Items, Piece, lines, read_part, scan, text_pieces
from data_engine.imports.records import ODD_CELL, UNREADABLE_ROW, used_fields
from data_engine.imports.rewriting import json_lines, pair_lines, pairs_in, write_lines

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "coco",
    ".txt": "text",
    ".md": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FIRST_RECORDS = 64

Located = tuple[str, Any]
"""A record (or an UnusableError) with its place: "line 17 of pages.jsonl"."""


class Source(Protocol):
    """Records in pieces. Can be sent to another process."""

    @property
    def format(self) -> str:
        """One of `options.FORMATS`."""

    @property
    def root(self) -> Path:
        """Where image paths start."""

    @property
    def pieces(self) -> int:
        """How many there are."""

    def indices(self, number: int) -> range:
        """The numbers of the records of a piece, counted over the source."""

    def identity(self, number: int) -> str:
        """Changes when the records of a piece do."""

    def records(self, number: int) -> Iterator[Located]:
        """The records of a piece."""

    def fields(self) -> set[str]:
        """The fields of the first records."""


@dataclass(frozen=True)
class FileSource:
    """A `Source`: lines of JSON (also those that something else was rewritten as), or pieces of plain text."""

    format: str
    root: Path
    items: Items
    per_piece: int
    cut: tuple[Piece, ...]

    @property
    def pieces(self) -> int:
        return len(self.cut)

    def indices(self, number: int) -> range:
        start = number * self.per_piece
        return range(start, start + sum(part.items for part in self.cut[number].parts))

    def identity(self, number: int) -> str:
        return self.cut[number].sha256

    def records(self, number: int) -> Iterator[Located]:
        for part in self.cut[number].parts:
            for item, data in read_part(part, self.items):
                if self.format == "text":
                    yield f"piece {item} of {part.path.name}", _text_record(data)
                elif data.strip():
                    record = _json_record(data)
                    place = record.get("place") if isinstance(record, dict) else None
                    yield str(place or f"line {item} of {part.path.name}"), record

    def fields(self) -> set[str]:
        if self.format == "text":
            return {"text"}
        first = (record for number in range(self.pieces) for _, record in self.records(number))
        return {
            name for record in islice(first, _FIRST_RECORDS) if isinstance(record, dict) for name in record
        }


def _json_record(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return UnusableError("text is not UTF-8")
    except (ValueError, RecursionError):
        return UnusableError("bad JSON")


def _text_record(data: bytes) -> Any:
    try:
        return {"text": data.decode("utf-8-sig").strip()}
    except UnicodeDecodeError:
        return UnusableError("text is not UTF-8")


@dataclass(frozen=True)
class ArrowSource:
    """A `Source`: a dataset that the library `datasets` saved on a disk."""

    path: Path
    split: str | None
    root: Path
    per_piece: int
    format: str = "arrow"

    @property
    def pieces(self) -> int:
        return -(-len(_arrow(self.path, self.split)) // self.per_piece)

    def indices(self, number: int) -> range:
        start = number * self.per_piece
        return range(start, min(start + self.per_piece, len(_arrow(self.path, self.split))))

    def identity(self, number: int) -> str:
        place = self.path if self.split is None else self.path / self.split
        return str(json.loads((place / "state.json").read_bytes())["_fingerprint"])

    def records(self, number: int) -> Iterator[Located]:
        dataset = _arrow(self.path, self.split)
        for row in self.indices(number):
            try:
                record = dataset[row]
            except ODD_CELL:
                record = UnusableError(UNREADABLE_ROW)
            yield f"row {row} of {self.path.name}", record

    def fields(self) -> set[str]:
        return set(_arrow(self.path, self.split).column_names)


@functools.lru_cache(maxsize=2)
def _arrow(path: Path, split: str | None) -> Any:
    """The saved dataset, its images not decoded. ConfigError when there is none."""
    from datasets import DatasetDict, Image, Sequence, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"import={path} is no dataset that `datasets` saved ({error}).") from error
    if isinstance(dataset, DatasetDict):
        if split is None:
            raise ConfigError(f"import={path} has the splits {', '.join(dataset)}: give options.split=SPLIT.")
        if split not in dataset:
            raise ConfigError(f"options.split={split} is not possible{nearest(split, dataset)}")
        dataset = dataset[split]
    elif split is not None:
        raise ConfigError(f"options.split={split} is not possible: {path} has no splits, leave it out.")
    for name, feature in dataset.features.items():
        if isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            dataset = dataset.cast_column(name, Sequence(Image(decode=False)))
    return dataset


def open_source(
    path: Path, wanted: str | None, options: ImportOptions, per_piece: int, scratch: Callable[[], Path]
) -> Source:
    """The records at an absolute path. `scratch()` is where COCO's and other JSON may be rewritten as lines.

    Raises ConfigError when there is nothing that can be imported.
    """
    if wanted is not None:
        one_of("format", wanted, FORMATS)
    if not path.exists():
        raise ConfigError(f"import={path} does not exist.")
    if _is_arrow(path) if wanted is None else wanted == "arrow":
        return ArrowSource(path, options.split, _root(options, path), per_piece)
    root = _root(options, path if path.is_dir() else path.parent)
    pairs = pairs_in(path) if path.is_dir() and wanted in (None, "pairs") else []
    files = [] if pairs else _files(path, wanted)
    name = "pairs" if pairs else wanted or _format_of(files[0])
    if name == "parquet":
        from data_engine.imports.parquet import open_parquet  # pyarrow takes its time to load

        return open_parquet(files, path, options.split, root, per_piece, used_fields(options))
    if name in ("pairs", "coco"):
        file = scratch()
        write_lines(file, pair_lines(pairs, path) if pairs else json_lines(files, options))
        files = [file]
    items: Items = partial(text_pieces, characters=options.characters) if name == "text" else lines
    try:
        cut = tuple(scan(files, items, per_piece))
    except OSError as error:
        raise ConfigError(f"import={error.filename} cannot be read ({error.strerror}).") from error
    if not cut:
        raise ConfigError(f"import={path} is empty.")
    return FileSource(name, root, items, per_piece, cut)


def _root(options: ImportOptions, default: Path) -> Path:
    root = default if options.images is None else Path(options.images)
    if not root.is_dir():
        raise ConfigError(f"options.images={root} is no directory.")
    return root


def _is_arrow(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json"))


def _files(path: Path, wanted: str | None) -> list[Path]:
    """The files of one format at a path, by name. ConfigError when there is none or several formats."""
    if path.is_file():
        if path.suffix.lower() in (".gz", ".zst", ".xz", ".bz2", ".zip"):
            raise ConfigError(f"import={path} is compressed: unpack it first.")
        if path.suffix.lower() in (".tar", ".tgz"):
            raise ConfigError(
                f"import={path} is a tar: python -m data_engine index=DIR reads tars where they lie."
            )
        if wanted is None and path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".arrow", ".pkl"):
            raise ConfigError(
                f"import={path} is of a format that is not read: write it as JSONL, a line per row with image and "
                "response, or as Parquet."
            )
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    formats: dict[str, list[Path]] = {}
    for file in found:
        if file.suffix.lower() in _SUFFIXES:
            formats.setdefault(_format_of(file), []).append(file)
    if wanted is not None:
        formats = {wanted: formats.get(wanted, [])}
    elif "parquet" in formats:  # what the hub puts beside them tells about them
        formats = {name: files for name, files in formats.items() if name not in ("text", "coco")}
    if not any(formats.values()):
        if any(file.suffix == ".tar" for file in found):
            raise ConfigError(
                f"import={path} holds tars: python -m data_engine index={path} reads them where they lie."
            )
        suffixes = Counter(file.suffix for file in found).most_common(3)
        there = ", ".join(f"{count} x {suffix or 'no suffix'}" for suffix, count in suffixes)
        raise ConfigError(
            f"import={path} holds no {'.jsonl, .json, .parquet, .txt or .md' if wanted is None else wanted} file "
            f"({there or 'it is empty'})."
        )
    if len(formats) > 1:
        raise ConfigError(
            f"import={path} holds files of several formats ({', '.join(sorted(formats))}): give format=, or one file."
        )
    return next(iter(formats.values()))


def _format_of(file: Path) -> str:
    """The format of a file by its name; lines of JSON are often called .json, too."""
    name = _SUFFIXES.get(file.suffix.lower(), "coco")
    return "jsonl" if name == "coco" and _has_lines(file) else name


def _has_lines(file: Path) -> bool:
    """Whether the first two lines are a record each, which is what no single JSON document has."""
    try:
        with open(file, "rb") as opened:
            first, second = islice(lines(opened), 2)
            return all(isinstance(json.loads(line.decode("utf-8-sig")), dict) for line in (second, first))
    except (OSError, ValueError, RecursionError):  # ValueError: also where there is no second line
        return False
