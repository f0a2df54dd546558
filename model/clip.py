"""The global encoder: CLIP-L/14 without its patch embedding, reading the vision tokenizer's features.

Paper section 3.2. Names of parameters are those of the released checkpoint (`model.vision_model.*`), its
spelling of `pre_layrnorm` included. The class token takes part in attention and is dropped at the output;
there is no final norm and no projection.

Shapes: N views, T tokens of a view, D width.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .config import ClipConfig
from .sam import resize_positions


class ClipEmbeddings(nn.Module):
    """Class token and absolute positions.

    `patch_embedding` belongs to the released file but not to the computation: the vision tokenizer replaces
    it. It is kept, frozen, so that a checkpoint goes through unchanged.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.grid_size = config.grid_size
        self.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        self.patch_embedding = nn.Conv2d(
            3, config.hidden_size, config.patch_size, config.patch_size, bias=False
        )
        self.patch_embedding.requires_grad_(False)
        self.position_embedding = nn.Embedding(config.grid_size**2 + 1, config.hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """[N, D, h, h] -> [N, 1 + h*h, D]."""
        views, width, side, _ = features.shape
        positions = self.position_embedding.weight
        stored = self.grid_size
        grid = resize_positions(positions[1:].view(1, stored, stored, width), side).reshape(
            side * side, width
        )
        tokens = features.flatten(2).transpose(1, 2)
        class_token = self.class_embedding.expand(views, 1, width)
        return torch.cat([class_token, tokens], 1) + torch.cat([positions[:1], grid])


class ClipAttention(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        views, tokens, width = hidden.shape
        qkv = self.qkv_proj(hidden).view(views, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.out_proj(mixed.transpose(1, 2).reshape(views, tokens, width))


class ClipMlp(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        intermediate_size = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.fc1(hidden)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))  # OpenAI's quick GELU


class ClipLayer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.self_attn = ClipAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.mlp = ClipMlp(config)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))


class ClipTransformer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.num_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class ClipEncoder(nn.Module):
    """Compressed features to globally mixed ones."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = ClipEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.transformer = ClipTransformer(config)

    def forward(self, features: Tensor) -> Tensor:
        """[N, D, h, h] features of the vision tokenizer to [N, h*h, D]."""
        return self.transformer(self.pre_layrnorm(self.embeddings(features)))[:, 1:]
