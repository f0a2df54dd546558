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

How it is filled: see `train.data.filling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from data_engine.errors import ConfigError
from model.config import PATCH_SIZE
from model.views import ResolutionMode, ViewPlan
from train.data.costs import VisionCost
from train.data.modes import ModeChoices, every_mode
from train.data.packing import BUDGETS

PATCH_BYTES = 3 * PATCH_SIZE * PATCH_SIZE

# Rows of the metadata.
TOKEN_IDS, VISION_INDEX, SEGMENT, POSITION, LABEL, HEADER = range(6)
METADATA_ROWS = 6
NO_VISION = -1

# Places in row HEADER.
HEADER_LABELLED = 0
"""Labelled tokens of the whole optimizer step, over all micro-batches and data-parallel ranks."""
HEADER_STEP = 1
HEADER_MICRO_BATCH = 2
HEADER_RANK = 3
"""Data-parallel rank."""
HEADER_CHECKSUM = 4
"""CRC-32 of the identities of the planned samples, as int32."""
HEADER_SAMPLES = 5
"""Planned samples; a damaged one that was left out counts."""
HEADER_LENGTH = 6
"""After it: the kind of every sample, in the order of segments (see `train.data.kinds`)."""

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

    def check(self, modes: ModeChoices) -> None:
        """Raises ConfigError when an image of some mode could never be packed: it would be dropped silently."""
        for task, mode in every_mode(modes):
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
