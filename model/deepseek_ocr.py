"""The whole model of stage 2 in one process: DeepEncoder, decoder and head.

Paper figure 3. Submodules carry the names of the released checkpoint, its `view_seperator` included; only the
routed experts are stacked (see `model.moe`).

What is special here, against the released code: any number of images per sample, of any modes, in any
mixture; gradients reach every part that is not frozen; the merge is a gather, out of place and without
reading anything back from the device.

Shapes: B rows, S tokens, H hidden, V vision tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .attention import AttentionLayout, KeyValueCache, packed_layout
from .config import DeepseekOCRConfig
from .decoder import DecoderLayer, RmsNorm, initialise_language
from .deepencoder import Projector, build_encoder, encode_views, initialise_encoder
from .layout import NEWLINE
from .loss import next_token_loss
from .sequence import IGNORE
from .views import ImageViews


class DeepseekOCROutput:
    """Result of a forward pass.

    `loss` is the mean next-token loss over labelled positions, without the balance term (that one is injected
    into the gradient), or None without labels. `logits` [B, S, vocabulary] are computed when asked for: with
    labels, training never needs them.
    """

    def __init__(self, hidden: Tensor, head_weight: Tensor, loss: Tensor | None) -> None:
        self.hidden = hidden
        self.loss = loss
        self._head_weight = head_weight

    @cached_property
    def logits(self) -> Tensor:
        return F.linear(self.hidden, self._head_weight)


class DeepseekOCRModel(nn.Module):
    """Everything but the head; the `model.` of the released names."""

    def __init__(self, config: DeepseekOCRConfig) -> None:
        super().__init__()
        language = config.language
        self.embed_tokens = nn.Embedding(language.vocab_size, language.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(language, index) for index in range(language.num_hidden_layers)
        )
        self.norm = RmsNorm(language.hidden_size, language.rms_norm_eps)
        self.sam_model, self.vision_model = build_encoder(config)
        self.projector = Projector(config.projector_input, language.hidden_size)
        self.image_newline = nn.Parameter(torch.empty(language.hidden_size))
        self.view_seperator = nn.Parameter(torch.empty(language.hidden_size))

    def vision_tokens(self, views: Sequence[Tensor]) -> Tensor:
        """[V + 2, H]: the tokens of all views in order, then the newline, then the separator."""
        ends = torch.stack([self.image_newline, self.view_seperator])
        if not views:
            return ends
        return torch.cat([encode_views(self.sam_model, self.vision_model, self.projector, views), ends])


class DeepseekOCR(nn.Module):
    """DeepSeek-OCR. `DeepseekOCR(config)` leaves parameters unset; see `initialise` and `model.load`."""

    def __init__(self, config: DeepseekOCRConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DeepseekOCRModel(config)
        self.lm_head = nn.Linear(config.language.hidden_size, config.language.vocab_size, bias=False)

    def initialise(self, seed: int) -> DeepseekOCR:
        """Random parameters: the encoder as `initialise_encoder`, the decoder as the released code."""
        generator = torch.Generator().manual_seed(seed)
        part, language = self.model, self.config.language
        initialise_language(self, language, generator)
        initialise_encoder(part.sam_model, part.vision_model, generator)
        initialise_ends(part.image_newline, part.view_seperator, generator)
        return self

    def forward(
        self,
        input_ids: Tensor,
        images: Sequence[Sequence[ImageViews]] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> DeepseekOCROutput:
        """Run a batch in which every row may hold any number of images.

        Args:
            input_ids: int [B, S] with `image_token_id` at every placeholder.
            images: per row, its images in the order of their placeholders; None for text only.
            attention_mask: [B, S], 0 at padding; an alternative to segment_ids for unpacked rows.
            position_ids: int [B, S]; by default counted from the first real token of each segment.
            segment_ids: int [B, S]; samples packed into one row have different ids, 0 is padding.
            labels: int [B, S], not shifted, -100 where there is no loss (as in transformers).

        Raises:
            ValueError: placeholders and images do not match, or the rows are too long.
        """
        limit = self.config.language.max_position_embeddings
        if input_ids.shape[1] > limit and segment_ids is None:
            raise ValueError(
                f"the sequence has {input_ids.shape[1]} tokens but the model was built for {limit}; "
                "shorten it or use a smaller resolution mode."
            )
        segments = _segments(input_ids, attention_mask, segment_ids)
        positions = _positions(segments) if position_ids is None else position_ids
        hidden = self.embed(input_ids, images)
        layout = packed_layout(segments, positions, self.config.language)
        hidden = self.decode(hidden, layout)
        loss = None
        if labels is not None:
            shifted = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
            # The last token of a packed sample must not predict the first of the next.
            crosses = F.pad(segments[:, 1:] != segments[:, :-1], (0, 1), value=True)
            shifted = shifted.masked_fill(crosses, IGNORE).reshape(-1)
            total = next_token_loss(hidden.reshape(-1, hidden.shape[-1]), self.lm_head.weight, shifted)
            loss = total / (shifted != IGNORE).sum().clamp(min=1)
        return DeepseekOCROutput(hidden, self.lm_head.weight, loss)

    def embed(self, input_ids: Tensor, images: Sequence[Sequence[ImageViews]] | None) -> Tensor:
        """Text embeddings with vision tokens gathered into the placeholders, [B, S, H]."""
        embedded = self.model.embed_tokens(input_ids)
        rows = [[] for _ in input_ids] if images is None else images
        if len(rows) != len(input_ids):
            raise ValueError(
                f"images has {len(rows)} rows but input_ids has {len(input_ids)}; give one list per row."
            )
        placeholders = input_ids == self.config.image_token_id
        vision_index = torch.from_numpy(_vision_index(placeholders.cpu().numpy(), rows)).to(input_ids.device)
        device, dtype = embedded.device, embedded.dtype
        views = [view.to(device, dtype) for row in rows for image in row for view in image.in_order()]
        vision = self.model.vision_tokens(views)
        return torch.where(placeholders[..., None], vision[vision_index], embedded)

    def decode(
        self, hidden: Tensor, layout: AttentionLayout, caches: Sequence[KeyValueCache] | None = None
    ) -> Tensor:
        """All decoder layers and the final norm."""
        for number, layer in enumerate(self.model.layers):
            hidden = layer(hidden, layout, None if caches is None else caches[number])
        return self.model.norm(hidden)


def initialise_ends(newline: Tensor, separator: Tensor, generator: torch.Generator) -> None:
    """Newline and separator start as released: normal with 1 / sqrt(hidden size)."""
    with torch.no_grad():
        for end in (newline, separator):
            end.normal_(0.0, end.shape[0] ** -0.5, generator=generator)


def _segments(input_ids: Tensor, attention_mask: Tensor | None, segment_ids: Tensor | None) -> Tensor:
    if segment_ids is not None:
        return segment_ids
    if attention_mask is not None:
        return attention_mask.to(torch.int64)
    return torch.ones_like(input_ids)


def _positions(segments: Tensor) -> Tensor:
    """Count from 0 within each run of equal segment ids."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    return index - torch.where(starts, index, 0).cummax(1).values


def _vision_index(placeholders: np.ndarray, rows: Sequence[Sequence[ImageViews]]) -> np.ndarray:
    """int64 [B, S]: the row of the vision buffer for each placeholder, 0 elsewhere."""
    index = np.zeros(placeholders.shape, dtype=np.int64)
    total = sum(int((image.layout() >= 0).sum()) for row in rows for image in row)
    first = 0
    for number, row in enumerate(rows):
        codes = []
        for image in row:
            layout = image.layout()
            # Negative codes are NEWLINE and SEPARATOR; their rows follow all feature tokens.
            codes.append(np.where(layout >= 0, layout + first, total + NEWLINE - layout))
            first += int((layout >= 0).sum())
        wanted = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int64)
        found = int(placeholders[number].sum())
        if found != len(wanted):
            raise ValueError(
                f"row {number} holds {found} image placeholders but its {len(row)} images need {len(wanted)}; "
                "build input_ids with model.sequence.build_sequence for the same views."
            )
        index[number, placeholders[number]] = wanted
    return index
