"""DeepEncoder: vision tokenizer and global encoder, fused and projected to the decoder's width.

Paper section 3.2. One view gives (side / 64)² vision tokens, each the concatenation of CLIP's feature and
the vision tokenizer's feature at that place (CLIP first), mapped by one linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from .clip import ClipEncoder
from .config import DeepseekOCRConfig
from .sam import SamVisionTokenizer


class Projector(nn.Module):
    """The released "linear" projector: [..., CLIP + SAM width] -> [..., hidden size of the language model]."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.layers = nn.Linear(input_size, output_size)

    def forward(self, fused: Tensor) -> Tensor:
        return self.layers(fused)


def encode_features(vision_model: ClipEncoder, projector: Projector, features: Tensor) -> Tensor:
    """Features of the vision tokenizer [N, C, h, h] to vision tokens [N, h*h, H]."""
    fused = torch.cat([vision_model(features), features.flatten(2).transpose(1, 2)], -1)
    return projector(fused)


def encode_views(
    sam_model: SamVisionTokenizer, vision_model: ClipEncoder, projector: Projector, views: Sequence[Tensor]
) -> Tensor:
    """Views of any sizes to one buffer of vision tokens, in the order of the views.

    Args:
        views: square views [3, S, S] of normalised floats; sizes may differ. Equal sizes run as one batch.

    Returns:
        [sum over views of (S / 64)², H].
    """
    by_side: dict[int, list[int]] = {}
    for number, view in enumerate(views):
        by_side.setdefault(view.shape[-1], []).append(number)
    tokens: list[Tensor] = [views[0]] * len(views)
    for numbers in by_side.values():
        features = sam_model(torch.stack([views[number] for number in numbers]))
        encoded = encode_features(vision_model, projector, features)
        for number, rows in zip(numbers, encoded.unbind(0), strict=True):
            tokens[number] = rows
    return torch.cat(tokens)


def build_encoder(config: DeepseekOCRConfig) -> tuple[SamVisionTokenizer, ClipEncoder]:
    """The two encoders of a config, with parameters not yet initialised as a whole (see `initialise`)."""
    return SamVisionTokenizer(config.sam), ClipEncoder(config.clip)


def initialise_encoder(
    sam_model: SamVisionTokenizer, vision_model: ClipEncoder, generator: torch.Generator
) -> None:
    """Random start of the encoder, for training without pretrained SAM and CLIP.

    Three things decide whether a small encoder begins to read after fifty steps or after many hundreds
    (`benchmarks/LOG.md` has the runs):
    - weights are normal with the inverse square root of their inputs, not with a fixed 0.02;
    - filters of the patch embedding have no mean, so that blank paper gives nothing and does not drown the ink;
    - positions are as large as what they are added to (0.2), or no later layer can tell one place from another.
    """
    with torch.no_grad():
        for module in (*sam_model.modules(), *vision_model.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                inputs = module.weight[0].numel()
                module.weight.normal_(0.0, inputs**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        filters = sam_model.patch_embed.proj.weight
        filters.sub_(filters.mean((1, 2, 3), keepdim=True))
        for positions in (sam_model.pos_embed, vision_model.embeddings.position_embedding.weight):
            positions.normal_(0.0, 0.2, generator=generator)
        vision_model.embeddings.class_embedding.normal_(0.0, 0.02, generator=generator)
