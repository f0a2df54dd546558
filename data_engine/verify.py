"""Looking at a dataset as if nobody could be trusted: every checksum, every count, every picture."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.errors import ConfigError
from data_engine.files import atomic_write_bytes, sha256_of
from data_engine.sample import IMAGE_PLACEHOLDER, Sample, image_members

MAXIMUM_PIXELS = 100_000_000
_PILLOW_FORMATS = {"png": "PNG", "jpg": "JPEG"}
_CELL, _CAPTION, _COLUMNS, _CELLS = 256, 64, 6, 36


def verify(dataset: Dataset, progress: Callable[[int, int], None]) -> None:
    """Compare all that can be compared. DamagedSampleError or ConfigError with the first thing that is wrong.

    `Dataset.open` has compared sizes, counts and indices already; here every tar is hashed and listed, every
    member's CRC-32 compared, every image decoded, every JSON read.
    """
    keys: set[str] = set()
    row = 0
    progress(0, len(dataset))
    for shard in dataset.shards:
        path = dataset.directory / f"{shard.name}.tar"
        if sha256_of(path) != shard.sha256:
            # The whole tar is wrong somewhere; the members tell where, and they are read first to say so.
            for i in range(row, row + shard.samples):
                dataset.read(i)
            raise DamagedSampleError(f"{path} is damaged outside of its samples: its sha256 does not match.")
        listed = _listed_members(path)
        for i in range(row, row + shard.samples):
            sample = dataset.read(i)
            if sample.key in keys:
                raise DamagedSampleError(f"the key {sample.key} appears twice, the second time in {path}.")
            keys.add(sample.key)
            for member in [*image_members(sample), "json"]:
                if next(listed, None) != f"{sample.key}.{member}":
                    raise DamagedSampleError(f"{path} does not list {sample.key}.{member} where it should.")
            _check_pictures(sample, path)
        if (extra := next(listed, None)) is not None:
            raise DamagedSampleError(f"{path} holds {extra}, which is not in its index.")
        row += shard.samples
        progress(row, len(dataset))


def _listed_members(path: Path) -> Iterator[str]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            yield member.name


def _check_pictures(sample: Sample, path: Path) -> None:
    if sample.prompt.count(IMAGE_PLACEHOLDER) != len(sample.images):
        raise DamagedSampleError(
            f"sample {sample.key} in {path} has another number of images than its prompt."
        )
    for data, size, name in zip(sample.images, sample.image_sizes, sample.image_formats, strict=True):
        try:
            with Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[name]]) as picture:
                if picture.width * picture.height > MAXIMUM_PIXELS:
                    raise ValueError(f"it has more than {MAXIMUM_PIXELS} pixels")
                if picture.size != size:
                    raise ValueError(
                        f"it is {picture.width} x {picture.height} pixels, not {size[0]} x {size[1]}"
                    )
                picture.load()
        except (OSError, ValueError, KeyError, SyntaxError) as error:
            raise DamagedSampleError(
                f"an image of sample {sample.key} in {path} is wrong: {error}."
            ) from error


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
            with Image.open(io.BytesIO(sample.images[0]), formats=list(_PILLOW_FORMATS.values())) as picture:
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
            f"the contact sheet {path} cannot be written: its directory does not exist."
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
