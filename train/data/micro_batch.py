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
from collections.abc import Sequence
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
from train.data.costs import VisionCost
from train.data.kinds import TEXT, kind_number
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


class PackedSample(NamedTuple):
    """What a pack holds of one sample."""

    identity: str
    """What the checksum is of, and what errors name."""
    sample: Sample
    """With its images."""
    mode: ResolutionMode
    part: int = 0
    """Of a text that is longer than the budget: which stretch of `tokens` tokens of it."""
    tokens: int | None = None
    """Its length as it was planned; None: any."""


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


class MicroBatchBuilder:
    """Fills micro-batches. Has no state besides its settings; safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, shape: MicroBatchShape) -> None:
        self._tokenizer = tokenizer
        self.shape = shape

    def build(self, samples: Sequence[PackedSample], header: Header) -> MicroBatch:
        """Pack these samples, in this order.

        Raises:
            ValueError: a sample cannot be used, see `MicroBatchFilling.add`; names it.
        """
        filling = self.start()
        for packed in samples:
            try:
                filling.add(packed)
            except ValueError as error:
                raise ValueError(f"sample {packed.sample.key} ({packed.identity}): {error}") from error
        return filling.finish(header)

    def start(self, shared: bool = False) -> MicroBatchFilling:
        """An empty micro-batch; with `shared`, in memory that another process can take over without a copy."""
        return MicroBatchFilling(self._tokenizer, self.shape, shared)


class MicroBatchFilling:
    """A micro-batch that is being filled, one sample after the other."""

    def __init__(self, tokenizer: Tokenizer, shape: MicroBatchShape, shared: bool) -> None:
        self._tokenizer = tokenizer
        self._shape = shape
        self._batch = MicroBatch(
            _zeros((shape.patches, PATCH_BYTES), torch.uint8, shared),
            _zeros((shape.views, 4), torch.int32, shared),
            _zeros((METADATA_ROWS, shape.tokens), torch.int32, shared),
        )
        self._pixels, self._tiles, self._metadata = (tensor.numpy() for tensor in self._batch)
        self._metadata[TOKEN_IDS] = tokenizer.pad_id
        self._metadata[VISION_INDEX] = NO_VISION
        self._metadata[LABEL] = IGNORE
        self._tokens = self._patches = self._views = self._vision_tokens = 0
        self._identities: list[str] = []
        self._kinds: list[int] = []

    def add(self, packed: PackedSample) -> None:
        """Append a sample, or change nothing.

        Raises:
            ValueError: an image cannot be decoded or has not the size that the index says, the prompt does not fit
                the images, the sample is not as long as it was planned, or it exceeds what is left of the shape.
        """
        sample = packed.sample
        images = [
            _views(encoded, size, packed.mode)
            for encoded, size in zip(sample.images, sample.image_sizes, strict=True)
        ]
        sequence = build_sequence(
            self._tokenizer, sample.prompt, [_layout(views) for views in images], sample.response
        )
        if not images:
            sequence = sequence.part(packed.part, self._shape.tokens)
        length = len(sequence)
        if packed.tokens is not None and length != packed.tokens:
            raise ValueError(
                f"it has {length} tokens and was measured at {packed.tokens}; a lengths cache is not of this data, or "
                "the text has changed."
            )
        start, end = self._tokens, self._tokens + length
        if end > self._shape.tokens:
            raise ValueError(
                f"its {length} tokens exceed what was left of {self._shape.tokens}; it was measured shorter."
            )
        views = [view for image in images for view in _in_order(image)]
        sides = [view.shape[-1] for view in views]
        after = (
            self._patches + sum((side // PATCH_SIZE) ** 2 for side in sides),
            self._views + len(sides),
            self._vision_tokens + sum((side // TOKEN_SIZE) ** 2 for side in sides),
        )
        if any(value > limit for value, limit in zip(after, self._shape.capacity[1:], strict=True)):
            raise ValueError(
                f"its views exceed what was left of {self._shape}; its images were measured smaller."
            )
        # From here on nothing can fail.
        first_tokens = [self._add_views(image) for image in images]
        metadata = self._metadata
        metadata[TOKEN_IDS, start:end] = sequence.input_ids
        metadata[VISION_INDEX, start:end] = self._vision_index(
            sequence.vision_code, sequence.image_number, np.array(first_tokens, dtype=np.int32)
        )
        self._identities.append(packed.identity)
        self._kinds.append(kind_number(sample.task, packed.mode.name if images else TEXT))
        metadata[SEGMENT, start:end] = len(self._identities)
        metadata[POSITION, start:end] = np.arange(length)
        metadata[LABEL, start:end] = sequence.labels
        self._tokens = end

    def leave_out(self, identity: str) -> None:
        """Go past a planned sample that cannot be used: no place is filled, but the checksum and the count are those
        of the plan, and the number of its segment stays unused."""
        self._identities.append(identity)
        self._kinds.append(0)

    def finish(self, header: Header) -> MicroBatch:
        """The micro-batch, with its header."""
        row = self._metadata[HEADER]
        row[HEADER_LABELLED] = header.labelled_tokens
        row[HEADER_STEP] = header.step
        row[HEADER_MICRO_BATCH] = header.micro_batch
        row[HEADER_RANK] = header.data_parallel_rank
        row[HEADER_CHECKSUM] = np.uint32(zlib.crc32("\n".join(self._identities).encode())).astype(np.int32)
        row[HEADER_SAMPLES] = len(self._identities)
        # There is room: a sample has three tokens at least, and so the sequence more places than segments.
        kinds = self._kinds[: len(row) - HEADER_LENGTH]
        row[HEADER_LENGTH : HEADER_LENGTH + len(kinds)] = kinds
        return self._batch

    def _vision_index(
        self, code: NDArray[np.int32], image_number: NDArray[np.int32], first_tokens: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        index = np.full(len(code), NO_VISION, dtype=np.int32)
        feature = code >= 0
        if feature.any():
            index[feature] = code[feature] + first_tokens[image_number[feature]]
        index[code == NEWLINE] = self._shape.vision_tokens
        index[code == SEPARATOR] = self._shape.vision_tokens + 1
        return index

    def _add_views(self, image: ViewArrays) -> int:
        """Returns the row of the image's first token in the vision buffer."""
        first = self._vision_tokens
        for view in _in_order(image):
            side = view.shape[-1]
            grid = side // PATCH_SIZE
            self._pixels[self._patches : self._patches + grid * grid] = view.reshape(grid * grid, PATCH_BYTES)
            self._tiles[self._views] = (self._patches, grid, grid, self._vision_tokens)
            self._patches += grid * grid
            self._views += 1
            self._vision_tokens += (side // TOKEN_SIZE) ** 2
        return first


def _zeros(shape: tuple[int, int], dtype: torch.dtype, shared: bool) -> Tensor:
    if not shared:
        # numpy's zeros cost nothing until they are touched; torch's are written at once, all 49 MB of the pixels.
        return torch.from_numpy(np.zeros(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))
    # As torch's own collate does. Moving a finished tensor there would copy all of it, empty places too: 58 instead of
    # 11 ms for 49 MB of pixels. Fresh shared memory is zero.
    count = shape[0] * shape[1]
    storage = torch.UntypedStorage._new_shared(count * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, (shape[1], 1))


def _views(encoded: bytes, size: tuple[int, int], mode: ResolutionMode) -> ViewArrays:
    image = open_image(encoded)
    if image.size != tuple(size):
        raise ValueError(
            f"an image has {image.width} x {image.height} pixels and the index says {size[0]} x {size[1]}."
        )
    return make_views(image, mode)


def _in_order(image: ViewArrays) -> list[NDArray[np.uint8]]:
    """Views in the order of the wire: tiles row by row, then the global view."""
    return [*(() if image.tiles is None else image.tiles), image.global_view]


def _layout(views: ViewArrays) -> NDArray[np.int32]:
    tile_side = 0 if views.tiles is None else views.tiles.shape[-1]
    return image_layout(views.global_view.shape[-1], tile_side, views.grid)
