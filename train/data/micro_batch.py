"""The micro-batch: one packed sequence as three tensors of fixed shape, what the first pipeline stage receives.

    T tokens, P patches (16 * 16 * 3 bytes of pixels), K views, V vision tokens

    pixels    uint8 [P, 768]   view k fills rows [o, o + g * g) with its contiguous uint8 image [3, 16 g, 16 g]
    tiles     int32 [K, 4]     (patch offset o, patches high g, patches wide g, vision-token offset); g = 0: no view
    metadata  int32 [6, T]     one row per TOKEN_IDS ... HEADER below

What is special here:
- Shapes never change, so the wire between stages is static; how much is filled changes, and each stage computes
  only that. A pack without images, or without any sample, is an ordinary micro-batch.
- Merging text and image is a gather: row VISION_INDEX says for every token which row of the vision buffer it
  is: 0..V-1 a vision token, V the newline, V + 1 the separator, -1 none of them (text).
- Row HEADER carries the few numbers that the last stage needs to normalise the loss and to check that it sees
  the same samples as the first one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_engine.errors import ConfigError
from data_engine.sample import Sample
from model.config import PATCH_SIZE, TOKEN_SIZE
from model.layout import NEWLINE, SEPARATOR, image_layout
from model.sequence import IGNORE, build_sequence
from model.tokenizer import Tokenizer
from model.views import ResolutionMode, ViewArrays, ViewPlan, make_views, open_image
from train.data.lengths import VisionCost
from train.data.packing import BUDGETS
from train.data.reader import check_modes, mode_of

PATCH_BYTES = 3 * PATCH_SIZE * PATCH_SIZE

# Rows of the metadata.
TOKEN_IDS, VISION_INDEX, SEGMENT, POSITION, LABEL, HEADER = range(6)
METADATA_ROWS = 6
NO_VISION = -1

# Places in row HEADER; the rest of it is 0.
HEADER_LABELLED = 0
"""Labelled tokens of the whole optimizer step, over all micro-batches and data-parallel ranks."""
HEADER_STEP = 1
HEADER_MICRO_BATCH = 2
HEADER_RANK = 3
"""Data-parallel rank."""
HEADER_CHECKSUM = 4
"""CRC-32 of the identities of the samples, as int32."""
HEADER_SAMPLES = 5
HEADER_LENGTH = 6

# Columns of the tile table.
PATCH_OFFSET, PATCHES_HIGH, PATCHES_WIDE, TOKEN_OFFSET = range(4)


class MicroBatch(NamedTuple):
    """One packed sequence, on the CPU; shapes and rows as above."""

    pixels: Tensor
    tiles: Tensor
    metadata: Tensor


class Header(NamedTuple):
    """What a micro-batch knows of the step it belongs to."""

    labelled_tokens: int
    step: int
    micro_batch: int
    data_parallel_rank: int


@dataclass(frozen=True)
class MicroBatchShape:
    """The budgets of every micro-batch of a run."""

    tokens: int
    """T: length of the packed sequence, placeholders of images included."""
    patches: int
    """P: 16 x 16 pixel patches of all views together."""
    views: int
    """K: views, that is tiles and global views."""
    vision_tokens: int
    """V: vision tokens of all views together, newlines and separators not counted."""

    def __post_init__(self) -> None:
        for name, value, least in zip(BUDGETS, self.capacity, (HEADER_LENGTH, 1, 1, 1), strict=True):
            if value < least:
                raise ConfigError(f"sequence.{name}={value} must be at least {least}.")

    @property
    def capacity(self) -> tuple[int, int, int, int]:
        """The budgets in the order of `packing.BUDGETS`."""
        return self.tokens, self.patches, self.views, self.vision_tokens

    def check(self, modes: Mapping[str, ResolutionMode]) -> None:
        """Raises ConfigError when an image of some mode could never be packed: it would be dropped silently."""
        check_modes(modes)
        for task, mode in modes.items():
            need = largest_image(mode)
            # A sequence has a begin token, an end token and at least one token between them.
            needs = (need.placeholders + 3, need.patches, need.views, need.vision_tokens)
            for name, have, wanted in zip(BUDGETS, self.capacity, needs, strict=True):
                if have < wanted:
                    raise ConfigError(
                        f"sequence.{name}={have} is too small for one image of mode {mode.name} (modes.{task}), "
                        f"which takes up to {wanted}; set it to {wanted} or more, or choose a smaller mode."
                    )


def largest_image(mode: ResolutionMode) -> VisionCost:
    """The most that one image can take in this mode, budget by budget."""
    plans = [ViewPlan(mode.base_size, 0, (1, 1))]
    if mode.crop:
        plans += [
            ViewPlan(mode.base_size, mode.image_size, (columns, rows))
            for columns in range(1, mode.max_tiles + 1)
            for rows in range(1, mode.max_tiles // columns + 1)
            if columns * rows >= mode.min_tiles
        ]
    return VisionCost(*(max(column) for column in zip(*map(VisionCost.of, plans), strict=True)))


class MicroBatchBuilder:
    """Fills micro-batches. Has no state besides its settings; safe to use from several threads."""

    def __init__(
        self, tokenizer: Tokenizer, modes: Mapping[str, ResolutionMode], shape: MicroBatchShape
    ) -> None:
        self._tokenizer = tokenizer
        self._modes = dict(modes)
        self.shape = shape

    def build(self, samples: Sequence[tuple[str, Sample]], header: Header) -> MicroBatch:
        """Pack these samples, in this order.

        Args:
            samples: (identity, sample with images); identities are what the checksum is of, and errors name them.

        Raises:
            ValueError: an image cannot be decoded, a prompt does not fit its images, or the samples together
                exceed the shape (then they are not what was measured).
        """
        shape = self.shape
        pixels = np.zeros((shape.patches, PATCH_BYTES), dtype=np.uint8)
        tiles = np.zeros((shape.views, 4), dtype=np.int32)
        metadata = np.zeros((METADATA_ROWS, shape.tokens), dtype=np.int32)
        metadata[TOKEN_IDS] = self._tokenizer.pad_id
        metadata[VISION_INDEX] = NO_VISION
        metadata[LABEL] = IGNORE
        filled = _Filled()
        for number, (identity, sample) in enumerate(samples, start=1):
            try:
                self._add(sample, number, pixels, tiles, metadata, filled)
            except ValueError as error:
                raise ValueError(f"sample {sample.key} ({identity}): {error}") from error
        checksum = zlib.crc32("\n".join(identity for identity, _ in samples).encode())
        metadata[HEADER, HEADER_LABELLED] = header.labelled_tokens
        metadata[HEADER, HEADER_STEP] = header.step
        metadata[HEADER, HEADER_MICRO_BATCH] = header.micro_batch
        metadata[HEADER, HEADER_RANK] = header.data_parallel_rank
        metadata[HEADER, HEADER_CHECKSUM] = np.uint32(checksum).astype(np.int32)
        metadata[HEADER, HEADER_SAMPLES] = len(samples)
        return MicroBatch(torch.from_numpy(pixels), torch.from_numpy(tiles), torch.from_numpy(metadata))

    def _add(
        self,
        sample: Sample,
        segment: int,
        pixels: NDArray[np.uint8],
        tiles: NDArray[np.int32],
        metadata: NDArray[np.int32],
        filled: _Filled,
    ) -> None:
        mode = mode_of(self._modes, sample.task)
        layouts: list[NDArray[np.int32]] = []
        first_tokens: list[int] = []  # per image, the row of its first token in the vision buffer
        for encoded in sample.images:
            views = make_views(open_image(encoded), mode)
            layouts.append(_layout(views))
            first_tokens.append(filled.vision_tokens)
            for view in [*(() if views.tiles is None else views.tiles), views.global_view]:
                self._add_view(view, pixels, tiles, filled)
        sequence = build_sequence(self._tokenizer, sample.prompt, layouts, sample.response)
        length = len(sequence)
        start, end = filled.tokens, filled.tokens + length
        if end > self.shape.tokens:
            raise ValueError(
                f"its {length} tokens exceed what was left of {self.shape.tokens}; it was measured shorter."
            )
        metadata[TOKEN_IDS, start:end] = sequence.input_ids
        metadata[VISION_INDEX, start:end] = self._vision_index(
            sequence.vision_code, sequence.image_number, np.array(first_tokens, dtype=np.int32)
        )
        metadata[SEGMENT, start:end] = segment
        metadata[POSITION, start:end] = np.arange(length)
        metadata[LABEL, start:end] = sequence.labels
        filled.tokens = end

    def _vision_index(
        self, code: NDArray[np.int32], image_number: NDArray[np.int32], first_tokens: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        index = np.full(len(code), NO_VISION, dtype=np.int32)
        feature = code >= 0
        if feature.any():
            index[feature] = code[feature] + first_tokens[image_number[feature]]
        index[code == NEWLINE] = self.shape.vision_tokens
        index[code == SEPARATOR] = self.shape.vision_tokens + 1
        return index

    def _add_view(
        self, view: NDArray[np.uint8], pixels: NDArray[np.uint8], tiles: NDArray[np.int32], filled: _Filled
    ) -> None:
        side = view.shape[-1]
        patches, vision_tokens = (side // PATCH_SIZE) ** 2, (side // TOKEN_SIZE) ** 2
        after = (filled.patches + patches, filled.views + 1, filled.vision_tokens + vision_tokens)
        if any(value > limit for value, limit in zip(after, self.shape.capacity[1:], strict=True)):
            raise ValueError(
                f"its views exceed what was left of {self.shape}; its images were measured smaller."
            )
        pixels[filled.patches : after[0]] = view.reshape(patches, PATCH_BYTES)
        grid = side // PATCH_SIZE
        tiles[filled.views] = (filled.patches, grid, grid, filled.vision_tokens)
        filled.patches, filled.views, filled.vision_tokens = after


@dataclass
class _Filled:
    """How much of each budget is used."""

    tokens: int = 0
    patches: int = 0
    views: int = 0
    vision_tokens: int = 0


def _layout(views: ViewArrays) -> NDArray[np.int32]:
    tile_side = 0 if views.tiles is None else views.tiles.shape[-1]
    return image_layout(views.global_view.shape[-1], tile_side, views.grid)
