"""Pages of a benchmark as an array of samples, so that predicting, scoring and reporting treat them as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from data_engine.command_line import ConfigError
from data_engine.sample import Sample

FORMATS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg"}


@dataclass(frozen=True)
class BenchmarkPage:
    """One page: what it is, and what is right."""

    key: str
    """Name of the image without its ending; the name of its prediction file."""
    image: Path
    size: tuple[int, int]
    """(width, height) in pixels."""
    truth: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """Kind of group to group, such as "language" to "english"."""
    truth_tokens: int = 0
    reference: dict[str, Any] | None = None
    """The benchmark's own record, where more than the text is scored."""


class BenchmarkPages:
    """The pages of one benchmark; reads like a dataset."""

    def __init__(self, name: str, prompt: str, pages: Sequence[BenchmarkPage], origin: Path) -> None:
        """ConfigError when two pages have the same name, or there is none."""
        if not pages:
            raise ConfigError(f"{origin} holds no page that {name} evaluates.")
        self.name = name
        self.prompt = prompt
        self.pages = list(pages)
        record = json.dumps([[page.key, page.truth] for page in pages], ensure_ascii=False)
        self.fingerprint = hashlib.sha256(record.encode("utf-8", errors="replace")).hexdigest()
        seen: set[str] = set()
        for page in pages:
            if page.key in seen:
                raise ConfigError(f"{origin} lists the page {page.key} twice; take the benchmark's own file.")
            seen.add(page.key)

    def __len__(self) -> int:
        return len(self.pages)

    def key(self, i: int) -> str:
        """Name of page `i`: that of its image without the ending."""
        return self.pages[i].key

    def read_text(self, i: int) -> Sample:
        """Page `i` without its image."""
        return self._sample(self.pages[i], ())

    def read(self, i: int) -> Sample:
        """Page `i` with its image; without it where the file is missing (predictions were given)."""
        page = self.pages[i]
        return self._sample(page, (page.image.read_bytes(),) if page.image.is_file() else ())

    def check_images(self) -> None:
        """ConfigError that names the missing images; to be called before anything is predicted."""
        missing = [page.image for page in self.pages if not page.image.is_file()]
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(self)} images of {self.name} are missing, such as {missing[0]}; "
                "predicting needs the benchmark's images."
            )

    def _sample(self, page: BenchmarkPage, images: tuple[bytes, ...]) -> Sample:
        formats = (FORMATS.get(page.image.suffix.lower(), "png"),)
        return Sample(page.key, images, formats, (page.size,), self.prompt, page.truth, self.name)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the head of a file, (0, 0) where there is none; ConfigError if it is no image."""
    if not path.is_file():
        return 0, 0
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path} is no PNG or JPEG image: {error}.") from error


def read_json_list(path: Path, benchmark: str) -> list[dict[str, Any]]:
    """The list of objects that a ground-truth file holds; ConfigError says what is wrong."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; data= must be the directory of {benchmark}'s own files.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ConfigError(f"{path} must hold a list of objects, as {benchmark} publishes it.")
    return content


def safe_name(name: str, path: Path) -> str:
    """A file name taken from a foreign file; ConfigError unless it stays in its directory."""
    if not name or name in (".", "..") or Path(name).name != name or "\0" in name:
        raise ConfigError(f"{path} names an image '{name}', which is no plain file name.")
    return name
