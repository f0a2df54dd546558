"""What does not come in lines, rewritten as lines of the documented form, so that it can be dealt out to processes.

COCO keeps images and annotations apart, a JSON list must be read as a whole, and a directory of images beside texts
has no order but that of its names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.files import atomic_writer
from data_engine.imports.coco import coco_records, is_coco
from data_engine.imports.options import ImportOptions

_IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
_TEXTS = (".md", ".txt")


def write_lines(file: Path, records: Iterable[Any]) -> None:
    """Write records as a JSONL file. OSError when there is no room for it, and what `records` raises."""
    with atomic_writer(file) as out:
        for record in records:
            out.write(json.dumps(record).encode() + b"\n")


def json_lines(files: Sequence[Path], options: ImportOptions) -> Iterator[Any]:
    """The records of JSON files: COCO, or lists of records. ConfigError for anything else."""
    for file in files:
        content = _read_json(file)
        if is_coco(content):
            yield from coco_records(content, file, options)
        elif isinstance(content, list):
            for number, entry in enumerate(content, 1):
                place = f"entry {number} of {file.name}"
                own = entry if isinstance(entry, dict) else {}
                # An empty one counts as none: else the place would be in the file that is written here.
                yield {**own, "place": own.get("place") or place}
        else:
            raise ConfigError(
                f"import={file} is neither COCO's JSON (images, annotations) nor a list of records; give format=jsonl "
                "if each line is one."
            )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"import={path} is not JSON ({error}): give format=jsonl if each line is."
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"import={path} cannot be read ({error.strerror}).") from error


def pairs_in(directory: Path) -> list[tuple[Path, Path]]:
    """(image, text) of one name, in the order of their names."""
    images = (path for path in sorted(directory.rglob("*")) if path.suffix.lower() in _IMAGES)
    texts = ((image, image.with_suffix(suffix)) for image in images for suffix in _TEXTS)
    return [(image, text) for image, text in texts if text.is_file()]


def pair_lines(pairs: Sequence[tuple[Path, Path]], directory: Path) -> Iterator[dict[str, Any]]:
    """A record per pair found in a directory; a text that is no UTF-8 keeps its place and is refused there.

    Raises ConfigError when a text cannot be read.
    """
    for image, text in pairs:
        content = _read(text).decode("utf-8-sig", "surrogateescape").strip()
        yield {"image": str(image), "response": content, "place": str(text.relative_to(directory))}
