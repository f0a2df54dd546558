"""Tars as others write them, for the tests."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from data_engine.dataset import Dataset
from data_engine.index_run import Indexed, Wishes, index_dataset


def picture(width: int = 20, height: int = 10, kind: str = "JPEG", shade: int = 0, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    Image.blend(image, Image.new("RGB", image.size, (shade, 90, 30)), 0.5).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 400 million pixels."""
    data = bytearray(picture(8, 8, "PNG"))
    data[16:24] = (20000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def write_tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pages(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    """An image and a text per key."""
    members = []
    for number in range(start, start + count):
        members.append((f"{number:05d}.jpg", picture(20 + number % 7, 10, shade=number % 256)))
        members.append((f"{number:05d}.txt", f"text of {number}".encode()))
    return members


def index(directory: Path | str, out: Path | None = None, **wishes: str) -> Indexed:
    said: list[str] = []
    return index_dataset(
        str(directory), None if out is None else str(out), Wishes(**wishes), 1, lambda *_: None, said.append
    )


def indexed(directory: Path, members: list[tuple[str, bytes]], **wishes: str) -> tuple[Dataset, Indexed]:
    """One tar, indexed and opened."""
    write_tar(directory / "a.tar", members)
    outcome = index(directory, **wishes)
    return Dataset.open(directory), outcome
