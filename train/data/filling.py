"""Filling a micro-batch: samples are decoded, cut into views, and written where `train.data.micro_batch` says."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_engine.sample import Sample
from model.config import PATCH_SIZE, TOKEN_SIZE
from model.layout import NEWLINE, SEPARATOR, image_layout
from model.sequence import IGNORE, build_sequence
from model.tokenizer import Tokenizer
from model.views import ResolutionMode, ViewArrays, make_views, open_image
from train.data.kinds import TEXT, kind_number
from train.data.micro_batch import (
    HEADER,
    HEADER_CHECKSUM,
    HEADER_LABELLED,
    HEADER_LENGTH,
    HEADER_MICRO_BATCH,
    HEADER_RANK,
    HEADER_SAMPLES,
    HEADER_STEP,
    LABEL,
    METADATA_ROWS,
    NO_VISION,
    PATCH_BYTES,
    POSITION,
    SEGMENT,
    TOKEN_IDS,
    VISION_INDEX,
    Header,
    MicroBatch,
    MicroBatchShape,
)


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


class MicroBatchFilling:
    """A micro-batch that is being filled, one sample after the other.

    Args:
        shared: fill memory that another process can take over without a copy.
    """

    def __init__(self, tokenizer: Tokenizer, shape: MicroBatchShape, shared: bool = False) -> None:
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
