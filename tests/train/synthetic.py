"""Micro-batches made without data: views of two sizes, packed samples, text alone, nothing at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from train.config import SequenceShape
from train.data.micro_batch import (
    HEADER,
    HEADER_LABELLED,
    LABEL,
    METADATA_ROWS,
    PATCH_BYTES,
    POSITION,
    SEGMENT,
    TOKEN_IDS,
    VISION_INDEX,
    MicroBatch,
)

SHAPE = SequenceShape(tokens=96, patches=400, views=6, vision_tokens=32)
VOCABULARY = 512
IMAGE = 3
MIXED, TEXT_ONLY, EMPTY = "mixed", "text only", "empty"


@dataclass(frozen=True)
class Plan:
    """Which micro-batches a step has: kinds[replica][micro_batch]."""

    kinds: tuple[tuple[str, ...], ...]
    seed: int = 0

    @property
    def micro_batches(self) -> int:
        return len(self.kinds[0])

    @property
    def replicas(self) -> int:
        return len(self.kinds)

    def batches(self, replica: int, step: int = 0) -> list[MicroBatch]:
        """The micro-batches of one replica, with the labelled tokens of the whole step in their header."""
        everything = [
            [
                _micro_batch(kind, 1000 * (self.seed + step) + 10 * row + column)
                for column, kind in enumerate(kinds)
            ]
            for row, kinds in enumerate(self.kinds)
        ]
        labelled = sum(int((batch.metadata[LABEL] >= 0).sum()) for row in everything for batch in row)
        for row in everything:
            for batch in row:
                batch.metadata[HEADER, HEADER_LABELLED] = labelled
        return everything[replica]


def _micro_batch(kind: str, seed: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, count: int) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=generator, dtype=torch.int32)

    pixels = torch.zeros(SHAPE.patches, PATCH_BYTES, dtype=torch.uint8)
    tiles = torch.zeros(SHAPE.views, 4, dtype=torch.int32)
    metadata = torch.zeros(METADATA_ROWS, SHAPE.tokens, dtype=torch.int32)
    metadata[VISION_INDEX] = -1
    metadata[LABEL] = -100
    # Views of 8 and 12 patches a side (128 and 192 px: 4 and 9 vision tokens), one per sample; 0 is text.
    sides = {MIXED: (8, 0, 12, 8), TEXT_ONLY: (0, 0), EMPTY: ()}[kind]
    place = patch = token = view = 0
    for segment, side in enumerate(sides, start=1):
        start = place
        place += 1  # begin
        if side:
            count = side * side
            pixels[patch : patch + count] = torch.randint(
                0, 256, (count, PATCH_BYTES), generator=generator, dtype=torch.uint8
            )
            tiles[view] = torch.tensor([patch, side, side, token])
            square = side // 4
            for row in range(square):
                codes = [*range(token + row * square, token + (row + 1) * square), SHAPE.vision_tokens]
                metadata[VISION_INDEX, place : place + square + 1] = torch.tensor(codes, dtype=torch.int32)
                place += square + 1
            metadata[VISION_INDEX, place] = SHAPE.vision_tokens + 1
            place += 1
            metadata[TOKEN_IDS, start + 1 : place] = IMAGE
            patch, token, view = patch + count, token + square * square, view + 1
        text = int(integers(3, 8, 1))
        metadata[TOKEN_IDS, place : place + text] = integers(4, VOCABULARY, text)
        metadata[LABEL, place - 1 : place + text - 1] = metadata[TOKEN_IDS, place : place + text]
        place += text
        metadata[SEGMENT, start:place] = segment
        metadata[POSITION, start:place] = torch.arange(place - start, dtype=torch.int32)
    return MicroBatch(pixels, tiles, metadata)
