"""Samples in memory, with the interface of a dataset: fast enough for property tests."""

from __future__ import annotations

import io
import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_engine.sample import Sample
from model.views import MODES, ResolutionMode

NANO_MODES = {"default": MODES["nano_tiny"], "page": MODES["nano_gundam"]}
SMALL_MODES = {
    "default": ResolutionMode("small_tiny", 64, 64, crop=False, pad=False),
    "page": ResolutionMode("small_gundam", 128, 64, crop=True),
}
"""The same rules with a quarter of the pixels, for tests that build many micro-batches."""


@lru_cache(maxsize=64)
def png(width: int, height: int, shade: int) -> bytes:
    """A small picture with a gradient, so that orientation and colour matter."""
    image = Image.radial_gradient("L").resize((width, height))
    image = Image.merge("RGB", (image, image.point(lambda value: (value + shade) % 256), image.rotate(90)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_sample(key: str, task: str, sizes: list[tuple[int, int]], response: str, shade: int = 0) -> Sample:
    marks = "".join("<image>\n" for _ in sizes)
    return Sample(
        key=key,
        images=tuple(png(width, height, shade) for width, height in sizes),
        image_formats=("png",) * len(sizes),
        image_sizes=tuple(sizes),
        prompt=f"{marks}Free OCR." if sizes else "",
        response=response,
        task=task,
    )


class MemoryDataset:
    """Has what `train.data.reader.SampleReader` asks for."""

    def __init__(self, name: str, samples: list[Sample], fingerprint: str | None = None) -> None:
        self.name = name
        self.samples = samples
        self.fingerprint = fingerprint or f"fingerprint of {name} with {len(samples)}"
        self.texts_read = 0
        self.images_read = 0

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, i: int) -> str:
        return self.samples[i].key

    def read(self, i: int) -> Sample:
        self.images_read += 1
        return self.samples[i]

    def read_text(self, i: int) -> Sample:
        self.texts_read += 1
        sample = self.samples[i]
        return Sample(
            sample.key,
            (),
            sample.image_formats,
            sample.image_sizes,
            sample.prompt,
            sample.response,
            sample.task,
            sample.provenance,
        )

    def image_sizes_of(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        chosen = [self.samples[i].image_sizes for i in samples.tolist()]
        sizes = [size for of_one in chosen for size in of_one]
        return np.array([len(of_one) for of_one in chosen], np.int64), np.array(sizes, np.int32).reshape(
            -1, 2
        )


def cards(count: int, seed: int = 1, name: str = "card") -> MemoryDataset:
    """One small image and a few digits each."""
    random_numbers = random.Random(seed)
    samples = []
    for i in range(count):
        digits = "".join(random_numbers.choices("0123456789", k=random_numbers.randint(1, 12)))
        samples.append(make_sample(f"card-{i}", "card", [(50, 30)], digits, shade=i % 7))
    return MemoryDataset(name, samples)


def pages(count: int, seed: int = 2, name: str = "page") -> MemoryDataset:
    """Tiles in Gundam mode; some samples have two images, some are small enough for the global view alone."""
    random_numbers = random.Random(seed)
    sizes = [(100, 150), (60, 45), (150, 65), (130, 130)]
    samples = []
    for i in range(count):
        chosen = random_numbers.choices(sizes, k=random_numbers.choice([1, 1, 2]))
        text = " ".join(random_numbers.choices(["table", "of", "contents", "<td>", "Schrift", "字"], k=9))
        samples.append(make_sample(f"page-{i}", "page", chosen, text, shade=i % 5))
    return MemoryDataset(name, samples)


def texts(count: int, seed: int = 3, name: str = "text") -> MemoryDataset:
    """No image at all."""
    random_numbers = random.Random(seed)
    return MemoryDataset(
        name,
        [
            make_sample(f"text-{i}", "text", [], "plain words " * random_numbers.randint(1, 8))
            for i in range(count)
        ],
    )
