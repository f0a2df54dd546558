"""The record that everything here is about: images, a prompt, the text that is right, and where it is from.

In a shard one sample is a few members with the same key:

    <key>.png                      its image; with several images <key>.0.png, <key>.1.png, ...
    <key>.json                     everything else, UTF-8, sorted keys:
        {"schema": 1, "prompt": ..., "response": ..., "task": ...,
         "images": [{"member": "png", "width": 128, "height": 128}], "provenance": {...}}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1
IMAGE_FORMATS = ("png", "jpg", "webp")
IMAGE_PLACEHOLDER = "<image>"
# WebDataset takes everything after the first dot for the extension, so a dot in a key merges two samples.
_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Sample:
    """One training or evaluation sample."""

    key: str
    """Unique in its dataset; letters, digits, "_" and "-" only in shards that we write. SHARD/KEY in tars of others,
    who often count anew in every tar."""
    images: tuple[bytes, ...]
    """Encoded images; empty when only the text was read."""
    image_formats: tuple[str, ...]
    """"png", "jpg" or "webp", one per image."""
    image_sizes: tuple[tuple[int, int], ...]
    """(width, height) in pixels, one per image; known even when the images were not read."""
    prompt: str
    """Holds one "<image>" per image."""
    response: str
    """The text that the model shall answer."""
    task: str
    """"card", "page", "chart", "chemistry", "geometry", ..."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Enough to make the sample again: seed, kind, index, engine_version, renderer."""


def check_sample(sample: Sample) -> None:
    """Raise ValueError when a sample contradicts itself. Called for every sample that is written."""
    if not _KEY.fullmatch(sample.key):
        raise ValueError(f"the sample key {sample.key!r} may hold only letters, digits, '_' and '-'.")
    counts = {len(sample.images), len(sample.image_formats), len(sample.image_sizes)}
    counts.add(sample.prompt.count(IMAGE_PLACEHOLDER))
    if len(counts) > 1:
        raise ValueError(
            f"sample {sample.key} has {len(sample.images)} images, {len(sample.image_formats)} formats, "
            f"{len(sample.image_sizes)} sizes and {sample.prompt.count(IMAGE_PLACEHOLDER)} "
            f"{IMAGE_PLACEHOLDER} marks in its prompt; these must be equal."
        )
    for image_format in sample.image_formats:
        if image_format not in IMAGE_FORMATS:
            raise ValueError(
                f"sample {sample.key} has an image of format {image_format!r}, not one of {', '.join(IMAGE_FORMATS)}."
            )


def printable(text: str) -> str:
    """The text, its halves of characters spelled out: a name of a file may be no Unicode, and no file could hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def image_members(sample: Sample) -> list[str]:
    """The member extensions of the images: ["png"], or ["0.png", "1.jpg"] for several."""
    if len(sample.image_formats) == 1:
        return [sample.image_formats[0]]
    return [f"{number}.{image_format}" for number, image_format in enumerate(sample.image_formats)]


def to_json(sample: Sample) -> bytes:
    """The JSON member of a sample."""
    images = [
        {"member": member, "width": width, "height": height}
        for member, (width, height) in zip(image_members(sample), sample.image_sizes, strict=True)
    ]
    record = {
        "schema": SCHEMA,
        "prompt": sample.prompt,
        "response": sample.response,
        "task": sample.task,
        "images": images,
        "provenance": sample.provenance,
    }
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def from_json(key: str, data: bytes, images: tuple[bytes, ...] = ()) -> Sample:
    """The sample that `to_json` described, with the images that were read. ValueError when it is not one."""
    try:
        record = json.loads(data.decode("utf-8"))  # given bytes, json guesses the encoding first
        if record["schema"] != SCHEMA:
            raise ValueError(f"its schema is {record['schema']!r}, and this program reads schema {SCHEMA}")
        described = record["images"]
        sample = Sample(
            key=key,
            images=images,
            image_formats=tuple([image["member"].rsplit(".", 1)[-1] for image in described]),
            image_sizes=tuple([(int(image["width"]), int(image["height"])) for image in described]),
            prompt=record["prompt"],
            response=record["response"],
            task=record["task"],
            provenance=record["provenance"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its JSON lacks what a sample needs ({error!r})") from error
    if not (
        isinstance(sample.prompt, str) and isinstance(sample.response, str) and isinstance(sample.task, str)
    ):
        raise ValueError("its prompt, response and task are not all texts")
    return sample
