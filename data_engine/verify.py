"""Looking at a dataset as if nobody could be trusted: every checksum, every count, every picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.errors import ConfigError
from data_engine.files import atomic_write_bytes
from data_engine.foreign import OWN
from data_engine.image_header import FORMATS, ImageError, check_image
from data_engine.manifest import REMEDY, ShardRecord
from data_engine.sample import IMAGE_PLACEHOLDER, Sample, image_members
from data_engine.shard_index import Starts, compare_with_joint, read_shard_index
from data_engine.tar_scan import TarError, TarScan

_CELL, _CAPTION, _COLUMNS, _CELLS = 256, 64, 6, 36


def verify(dataset: Dataset, progress: Callable[[int, int], None]) -> None:
    """Compare all that can be compared. DamagedSampleError or ConfigError with the first thing that is wrong.

    Every block of dataset.index, and that it says what the indices of the shards say; every tar hashed and its
    headers read; every member's CRC-32; every text understood, every image decoded; no key twice.
    """
    progress(0, len(dataset))
    dataset.index.verify()
    hashes = np.zeros(len(dataset), np.uint64)
    starts = Starts()
    for shard in dataset.shards:
        rows = range(starts.samples, starts.samples + shard.samples)
        columns = read_shard_index(dataset.storage, shard)
        starts = compare_with_joint(dataset.index, columns, starts, shard.name)
        listed, problem = _listed_members(dataset, shard)
        expected: list[str] = []
        for i in rows:
            # Where the tar as a whole is wrong, its samples are read all the same, to say which one it is.
            sample = dataset.read(i)
            _check_sample(sample, dataset.tars.path(f"{shard.name}.tar"), i)
            expected += [f"{sample.key}.{member}" for member in [*image_members(sample), "json"]]
            hashes[i] = xxhash.xxh3_64_intdigest(sample.key.encode())
        path = dataset.tars.path(f"{shard.name}.tar")
        if problem:
            raise DamagedSampleError(
                f"{path} is damaged outside of its samples: {problem}; {REMEDY}.", path, reason=problem
            )
        if dataset.convention == OWN and listed != expected:
            raise DamagedSampleError(f"{path} does not hold the members that its index says; {REMEDY}.", path)
        progress(rows.stop, len(dataset))
    _check_keys(dataset, hashes)


def _listed_members(dataset: Dataset, shard: ShardRecord) -> tuple[list[str], str]:
    """Names of all members of a tar, and what is wrong with it as a whole, or ""."""
    try:
        with dataset.tars.open(f"{shard.name}.tar") as file:
            scan = TarScan(file, largest=0)
            names = [member.name for member in scan]
    except TarError as error:
        return [], str(error)
    except OSError as error:
        return [], f"it cannot be read ({error})"
    return names, "" if scan.sha256 == shard.sha256 else "its sha256 does not match"


def _check_keys(dataset: Dataset, hashes: NDArray[np.uint64]) -> None:
    """No key twice. Hashes of 64 bits, so that 50 million keys take 400 MB and not several GB."""
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(np.diff(hashes[order]) == 0).tolist():
        first, second = (int(order[place + step]) for step in (0, 1))
        if (key := dataset.key(first)) == dataset.key(second):
            raise DamagedSampleError(
                f"the key {key} appears twice, as sample {first} and {second} of {dataset.name}; {REMEDY}.",
                key=key,
                sample=second,
            )


def _check_sample(sample: Sample, path: str, i: int) -> None:
    problem = ""
    if sample.prompt.count(IMAGE_PLACEHOLDER) != len(sample.images):
        problem = "it has another number of images than its prompt"
    try:
        for data, size, name in zip(sample.images, sample.image_sizes, sample.image_formats, strict=True):
            check_image(data, name, size)
    except ImageError as error:
        problem = f"an image is wrong: {error}"
    if problem:
        raise DamagedSampleError(
            f"sample {sample.key} in {path} is damaged: {problem}; {REMEDY}.", path, sample.key, i, problem
        )


def contact_sheet(datasets: list[Dataset], path: Path) -> None:
    """Draw samples spread over the datasets, each above its response, into one PNG."""
    per_dataset = max(1, _CELLS // len(datasets))
    chosen: list[Sample] = []
    for dataset in datasets:
        count = min(per_dataset, len(dataset))
        chosen.extend(dataset.read(place * len(dataset) // count) for place in range(count))
    rows = -(-len(chosen) // _COLUMNS)
    width, height = _COLUMNS * (_CELL + 8) + 8, rows * (_CELL + _CAPTION + 8) + 8
    sheet = Image.new("RGB", (width, height), (120, 120, 130))
    draw = ImageDraw.Draw(sheet)
    captions = _caption_font()
    for place, sample in enumerate(chosen):
        left = 8 + place % _COLUMNS * (_CELL + 8)
        top = 8 + place // _COLUMNS * (_CELL + _CAPTION + 8)
        draw.rectangle((left, top, left + _CELL - 1, top + _CELL + _CAPTION - 1), fill=(255, 255, 255))
        if sample.images:
            with Image.open(io.BytesIO(sample.images[0]), formats=list(FORMATS)) as picture:
                scale = min(_CELL / picture.width, _CELL / picture.height, 2.0)
                small = picture.convert("RGB").resize(
                    (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
                )
                sheet.paste(small, (left + (_CELL - small.width) // 2, top + (_CELL - small.height) // 2))
        caption = _cut(sample.response, captions, _CELL - 8, 3)
        draw.multiline_text((left + 4, top + _CELL + 2), caption, fill=(0, 0, 0), font=captions, spacing=2)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    try:
        atomic_write_bytes(path, buffer.getvalue())
    except FileNotFoundError as error:
        raise ConfigError(
            f"the contact sheet {path} cannot be written: its directory does not exist; make it first."
        ) from error


def _caption_font() -> ImageFont.FreeTypeFont:
    from data_engine.assets import asset_path
    from data_engine.fonts import latin_font_file

    try:
        return ImageFont.truetype(str(asset_path("NotoSansSC-Regular.ttf")), 13)
    except ConfigError:  # the assets are not fetched: Latin captions will do
        return ImageFont.truetype(str(latin_font_file("sans", False)), 13)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> str:
    """The beginning of a text, broken where a line is full; "…" when it goes on."""
    result: list[str] = [""]
    for character in " ".join(text.split()):
        if font.getlength(result[-1] + character) <= width:
            result[-1] += character
        elif len(result) < lines:
            result.append(character)
        else:
            result[-1] = result[-1][:-1] + "…"
            break
    return "\n".join(result)
