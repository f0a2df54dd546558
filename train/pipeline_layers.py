"""The model as a list of layers that a pipeline can cut anywhere: tuple of tensors in, tuple of tensors out.

The wire (T tokens, V vision tokens, K views, P patches, C encoder width, H hidden; one shape for the whole run):

    micro-batch            pixels uint8 [P, 768], tiles int32 [K, 4], metadata int32 [6, T]
    VisionTokenizerStage   -> features [V, C], tiles, metadata
    GlobalEncoderStage     -> vision [V + 2, H] (rows V and V + 1: newline and separator), metadata
    EmbeddingStage         -> hidden [T, H], metadata
    DecoderLayerStage      -> hidden [T, H], metadata
    HeadStage              -> loss (scalar)

    Stage 1 of the training ends after two layers in CompactLanguageModelStage (`train.compact_stage`) -> loss.

What is special here:
- Buffers have fixed shapes, computation covers only what is filled: views are grouped by side and the rest of
  the buffer stays zero. Any number of images per micro-batch works, none included.
- What comes from frozen layers alone travels bit-cast to int32, so no gradient is computed for it or sent back.
- Labels and the number of labelled tokens of the whole step travel in the metadata, so only the first stage
  reads data and the loss is a true mean over the step.
- Every layer knows the checkpoint names of its parameters; saving, loading and exporting need nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn as nn
from torch import Tensor

from model.attention import AttentionLayout, packed_layout
from model.clip import ClipEncoder
from model.config import PATCH_SIZE, DecoderConfig
from model.decoder import DecoderLayer, RmsNorm
from model.deepencoder import Projector, encode_features
from model.loss import next_token_losses
from model.moe import MixtureOfExperts
from model.sam import SamVisionTokenizer
from model.sequence import IGNORE
from train.data.kinds import KINDS
from train.data.micro_batch import (
    HEADER,
    HEADER_LABELLED,
    HEADER_LENGTH,
    LABEL,
    POSITION,
    SEGMENT,
    TOKEN_IDS,
    VISION_INDEX,
)


class StageLayer(nn.Module):
    """A layer of the pipeline. `prefixes` maps its attributes to names in the checkpoint."""

    prefixes: Mapping[str, str]

    def checkpoint_name(self, local_name: str) -> str:
        """Full name in the checkpoint of a parameter of this layer."""
        attribute, _, rest = local_name.partition(".")
        prefix = self.prefixes[attribute]
        # A layer with an adapter beside it (train.lora) keeps its name.
        rest = rest.replace("base_layer.", "")
        return f"{prefix}.{rest}" if rest else prefix

    def named_checkpoint_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.named_parameters():
            yield self.checkpoint_name(name), parameter


def views_by_side(tiles: Tensor) -> dict[int, list[tuple[int, int]]]:
    """Filled slots of the tile table: side in patches -> (first patch row, first vision token) of its views.

    Reads the small table back to the host, once per micro-batch and vision stage.
    """
    groups: dict[int, list[tuple[int, int]]] = {}
    for patch_offset, side, _, token_offset in tiles.tolist():
        if side > 0:
            groups.setdefault(side, []).append((patch_offset, token_offset))
    return groups


def _token_rows(slots: list[tuple[int, int]], tokens: int, device: torch.device) -> Tensor:
    """int64 [views · tokens]: rows of the vision buffer that these views fill."""
    first = torch.tensor([token_offset for _, token_offset in slots], device=device)
    return (first[:, None] + torch.arange(tokens, device=device)).reshape(-1)


def as_float(buffer: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo the bit-cast of what frozen layers sent."""
    return buffer if buffer.is_floating_point() else buffer.view(dtype)


class VisionTokenizerStage(StageLayer):
    """SAM and the 16× compressor over every view of the micro-batch."""

    prefixes: Mapping[str, str] = {"sam_model": "model.sam_model"}

    def __init__(self, sam_model: SamVisionTokenizer, vision_tokens: int, bit_cast: bool) -> None:
        super().__init__()
        self.sam_model = sam_model
        self.vision_tokens = vision_tokens
        self.bit_cast = bit_cast

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(pixels, tiles, metadata) -> (features [V, C] or int32 [V, C·bytes/4], tiles, metadata)."""
        pixels, tiles, metadata = batch
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.bit_cast):
            features = self._features(pixels, tiles)
        return features.view(torch.int32) if self.bit_cast else features, tiles, metadata

    def _features(self, pixels: Tensor, tiles: Tensor) -> Tensor:
        dtype = self.sam_model.net_3.weight.dtype
        width = self.sam_model.net_3.out_channels
        features = torch.zeros(self.vision_tokens, width, dtype=dtype, device=pixels.device)
        for side, slots in views_by_side(tiles).items():
            size = side * PATCH_SIZE
            views = torch.stack([pixels[offset : offset + side * side] for offset, _ in slots])
            views = views.view(len(slots), 3, size, size)
            # Normalised as released: mean and deviation 0.5, in fp32 before the cast to the model's dtype.
            encoded = self.sam_model(((views.float() / 255 - 0.5) / 0.5).to(dtype))  # [views, C, t, t]
            rows = _token_rows(slots, encoded[0, 0].numel(), pixels.device)
            features = features.index_copy(0, rows, encoded.flatten(2).transpose(1, 2).reshape(-1, width))
        return features


class GlobalEncoderStage(StageLayer):
    """CLIP, the projector, and the two learned row ends."""

    prefixes: Mapping[str, str] = {
        "vision_model": "model.vision_model",
        "projector": "model.projector",
        "image_newline": "model.image_newline",
        "view_seperator": "model.view_seperator",
    }

    def __init__(
        self, vision_model: ClipEncoder, projector: Projector, vision_tokens: int, bit_cast: bool
    ) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.projector = projector
        hidden_size = projector.layers.out_features
        self.image_newline = nn.Parameter(torch.empty(hidden_size))
        self.view_seperator = nn.Parameter(torch.empty(hidden_size))
        self.vision_tokens = vision_tokens
        self.bit_cast = bit_cast

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(features, tiles, metadata) -> (vision [V + 2, H] or its bit-cast, metadata)."""
        features, tiles, metadata = batch
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.bit_cast):
            vision = self._vision(features, tiles)
        return vision.view(torch.int32) if self.bit_cast else vision, metadata

    def _vision(self, features: Tensor, tiles: Tensor) -> Tensor:
        features = as_float(features, self.image_newline.dtype)
        width = features.shape[1]
        ends = torch.stack([self.image_newline, self.view_seperator])
        vision = torch.cat([ends.new_zeros(self.vision_tokens, ends.shape[1]), ends])
        for side, slots in views_by_side(tiles).items():
            square = side // 4  # the compressor leaves a quarter of the patches per side
            rows = _token_rows(slots, square * square, features.device)
            grouped = features[rows].view(len(slots), square, square, width).permute(0, 3, 1, 2)
            encoded = encode_features(self.vision_model, self.projector, grouped)
            vision = vision.index_copy(0, rows, encoded.reshape(-1, ends.shape[1]))
        return vision


class EmbeddingStage(StageLayer):
    """Text embeddings, with vision tokens gathered into their places."""

    prefixes: Mapping[str, str] = {"embed_tokens": "model.embed_tokens"}

    def __init__(self, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(vision, metadata) -> (hidden [T, H], metadata)."""
        vision, metadata = batch
        text = self.embed_tokens(metadata[TOKEN_IDS])
        vision = as_float(vision, text.dtype)
        index = metadata[VISION_INDEX]
        hidden = torch.where((index >= 0)[:, None], vision[index.clamp(min=0)], text)
        return hidden, metadata


class LayoutCache:
    """Attention mask and rotary tables of the newest micro-batch, shared by the layers of one process."""

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        self._metadata: Tensor | None = None
        self._layout: AttentionLayout | None = None

    def layout(self, metadata: Tensor) -> AttentionLayout:
        """The layout for this metadata tensor; the layers of a stage hand on the same tensor object."""
        if self._layout is None or self._metadata is not metadata:
            self._layout = packed_layout(metadata[SEGMENT][None], metadata[POSITION][None], self._config)
            self._metadata = metadata
        return self._layout


class DecoderLayerStage(StageLayer):
    """One decoder layer. Balance loss and expert load add up here until the log reads them."""

    def __init__(self, decoder: DecoderLayer, number: int, layouts: LayoutCache) -> None:
        super().__init__()
        self.prefixes = {"decoder": f"model.layers.{number}"}
        self.number = number
        self.decoder = decoder
        self._layouts = layouts
        self.balance_loss: Tensor | None = None
        """Sum over the micro-batches since the last reset of the log, fp32 scalar."""
        self.expert_load: Tensor | None = None
        """int64 [experts]: choices since the last reset."""

    @property
    def experts(self) -> MixtureOfExperts | None:
        return self.decoder.mlp if isinstance(self.decoder.mlp, MixtureOfExperts) else None

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(hidden, metadata) -> (hidden, metadata)."""
        hidden, metadata = batch
        hidden = self.decoder(hidden[None], self._layouts.layout(metadata))[0]
        if self.training and self.experts is not None:
            self._record(self.experts)
        return hidden, metadata

    def _record(self, experts: MixtureOfExperts) -> None:
        loss, load = experts.last_balance_loss, experts.last_expert_load
        if loss is None or load is None:
            return
        self.balance_loss = loss if self.balance_loss is None else self.balance_loss + loss
        self.expert_load = load if self.expert_load is None else self.expert_load + load

    def take_records(self) -> tuple[Tensor, Tensor] | None:
        """(balance loss, expert load) since the last call; None for a dense layer."""
        if self.balance_loss is None or self.expert_load is None:
            return None
        records = self.balance_loss, self.expert_load
        self.balance_loss = self.expert_load = None
        return records


def step_share(metadata: Tensor, micro_batches: int, data_parallel_size: int) -> Tensor:
    """Factor that turns a micro-batch's summed loss into its share of the step's mean over labelled tokens.

    The engine averages over micro-batches and replicas; multiplying by their number here and dividing by the
    labelled tokens of the whole step leaves the true mean.
    """
    labelled = metadata[HEADER, HEADER_LABELLED].clamp(min=1).float()
    return micro_batches * data_parallel_size / labelled


class LossStage(StageLayer):
    """The last layer of a pipeline. Remembers the headers of what it was trained on, and the losses by kind."""

    def __init__(self, micro_batches: int, data_parallel_size: int) -> None:
        super().__init__()
        self._counts = micro_batches, data_parallel_size
        self._headers: list[Tensor] = []
        self._kinds: dict[bool, Tensor] = {}

    def weigh(self, total: Tensor, losses: Tensor, metadata: Tensor) -> Tensor:
        """The summed loss of a micro-batch as its share of the step, see `step_share`.

        Args:
            losses: fp32 [labelled positions].
        """
        if self.training:
            self._headers.append(metadata[HEADER, :HEADER_LENGTH].clone())
        self._add_kinds(losses.detach(), metadata)
        return total * step_share(metadata, *self._counts)

    def _add_kinds(self, losses: Tensor, metadata: Tensor) -> None:
        segments = metadata[SEGMENT][metadata[LABEL] != IGNORE]
        last = metadata.shape[1] - 1
        kinds = metadata[HEADER, (HEADER_LENGTH - 1 + segments).clamp(max=last)].long()
        if self.training not in self._kinds:
            self._kinds[self.training] = torch.zeros(2, KINDS, dtype=torch.float64, device=losses.device)
        sums, counts = self._kinds[self.training]
        sums.index_add_(0, kinds, losses.double())
        counts.index_add_(0, kinds, torch.ones_like(losses, dtype=torch.float64))

    def take_kinds(self, trained: bool = True) -> Tensor | None:
        """float64 [2, KINDS]: sum of losses and labelled tokens of every kind since the last call.

        Args:
            trained: of what was trained on; otherwise, of what was evaluated.
        """
        return self._kinds.pop(trained, None)

    def take_headers(self) -> list[Tensor]:
        """int32 [HEADER_LENGTH] of every micro-batch trained on since the last call."""
        headers, self._headers = self._headers, []
        return headers


class HeadStage(LossStage):
    """Final norm, head and loss."""

    prefixes: Mapping[str, str] = {"norm": "model.norm", "lm_head": "lm_head"}

    def __init__(
        self, norm: RmsNorm, lm_head: nn.Linear, micro_batches: int, data_parallel_size: int
    ) -> None:
        super().__init__(micro_batches, data_parallel_size)
        self.norm = norm
        self.lm_head = lm_head

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """(hidden, metadata) -> loss, fp32 scalar."""
        hidden, metadata = batch
        losses = next_token_losses(self.norm(hidden), self.lm_head.weight, metadata[LABEL])
        return self.weigh(*losses, metadata)
