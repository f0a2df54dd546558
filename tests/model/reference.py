"""An independent DeepSeek-OCR, composed of transformers' public classes, with our weights copied into it.

The vision tokenizer and the decoder are the native classes of the model's successor with this model's sizes, CLIP's
layers are transformers' CLIP; tokens are laid out by hand. Nothing here calls our model's code.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import (
    DeepseekOcr2SamVisionConfig,
    DeepseekOcr2TextConfig,
)
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import (
    DeepseekOcr2SamVisionEncoder,
    DeepseekOcr2TextModel,
)

from model import DeepseekOCR

SAM_NAMES = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    ("neck.0.", "neck.conv1."),
    ("neck.1.", "neck.layer_norm1."),
    ("neck.2.", "neck.conv2."),
    ("neck.3.", "neck.layer_norm2."),
    ("net_2.", "proj.conv1."),
    ("net_3.", "proj.conv2."),
)


class Reference(nn.Module):
    """Same sizes and weights as `ocr`; gradients stay in its own parameters."""

    def __init__(self, ocr: DeepseekOCR) -> None:
        super().__init__()
        sam, clip, text = ocr.config.sam, ocr.config.clip, ocr.config.language
        self.image_token_id = ocr.config.image_token_id
        self.alpha, self.top_k = text.aux_loss_alpha, text.num_experts_per_tok
        self.sam = DeepseekOcr2SamVisionEncoder(
            DeepseekOcr2SamVisionConfig(
                hidden_size=sam.hidden_size, output_channels=sam.out_channels, num_hidden_layers=sam.num_layers,
                num_attention_heads=sam.num_heads, image_size=sam.image_size, window_size=sam.window_size,
                global_attn_indexes=list(sam.global_attn_indexes), mlp_ratio=sam.mlp_ratio,
                downsample_channels=list(sam.downsample_channels), attn_implementation="eager",
            )
        )  # fmt: skip
        clip_config = CLIPVisionConfig(
            hidden_size=clip.hidden_size, intermediate_size=int(clip.hidden_size * clip.mlp_ratio),
            num_attention_heads=clip.num_heads, hidden_act="quick_gelu", layer_norm_eps=1e-5,
            attn_implementation="eager",
        )  # fmt: skip
        self.clip_layers = nn.ModuleList(CLIPEncoderLayer(clip_config) for _ in range(clip.num_layers))
        self.text = DeepseekOcr2TextModel(
            DeepseekOcr2TextConfig(
                vocab_size=text.vocab_size, hidden_size=text.hidden_size, intermediate_size=text.intermediate_size,
                num_hidden_layers=text.num_hidden_layers, num_attention_heads=text.num_attention_heads,
                max_position_embeddings=text.max_position_embeddings, rms_norm_eps=text.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": text.rope_theta},
                n_routed_experts=text.n_routed_experts, n_shared_experts=text.n_shared_experts, n_group=1,
                topk_group=1, num_experts_per_tok=text.num_experts_per_tok,
                moe_intermediate_size=text.moe_intermediate_size,
                mlp_layer_types=["dense" if text.is_dense(i) else "sparse" for i in range(text.num_hidden_layers)],
                attn_implementation="eager", experts_implementation="eager",
            )
        )  # fmt: skip
        self.other = nn.ParameterDict()
        self.names: dict[str, tuple[nn.Parameter, int | None]] = {}
        """Our name -> (parameter here, which third of our fused projection it is)."""
        self._copy(ocr)

    def _copy(self, ocr: DeepseekOCR) -> None:
        sam, clip, text = (dict(part.named_parameters()) for part in (self.sam, self.clip_layers, self.text))
        for name, value in ocr.named_parameters():
            name_here = name.removeprefix("model.")
            if name_here.startswith("sam_model."):
                key = name_here.removeprefix("sam_model.")
                for ours, theirs in SAM_NAMES:
                    key = key.replace(ours, theirs)
                self._set(name, sam[key], value)
            elif ".transformer.layers." in name_here:
                key = name_here.removeprefix("vision_model.transformer.layers.")
                if "qkv_proj" in key:
                    for third, letter in enumerate("qkv"):
                        target = clip[key.replace("qkv_proj", f"{letter}_proj")]
                        self._set(name, target, value.chunk(3)[third], third)
                else:
                    self._set(name, clip[key], value)
            elif name_here in text:
                self._set(name, text[name_here], value)
            else:
                self.other[name_here.replace(".", "/")] = nn.Parameter(value.detach().clone())
                self.names[name] = (self.other[name_here.replace(".", "/")], None)

    def _set(self, name: str, target: nn.Parameter, value: Tensor, third: int | None = None) -> None:
        with torch.no_grad():
            target.copy_(value)
        self.names[name if third is None else f"{name}#{third}"] = (target, third)

    def _get(self, name: str) -> Tensor:
        return self.other[name.replace(".", "/")]

    def view_tokens(self, view: Tensor) -> Tensor:
        """[3, S, S] -> [(S/64)², H]."""
        features = self.sam(view[None]).last_hidden_state
        width, side = features.shape[1], features.shape[-1]
        table = self._get("vision_model.embeddings.position_embedding.weight")
        stored = int((table.shape[0] - 1) ** 0.5)
        grid = table[1:].view(1, stored, stored, width).permute(0, 3, 1, 2)
        if stored != side:
            grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
        tokens = features.flatten(2).transpose(1, 2)
        hidden = torch.cat([self._get("vision_model.embeddings.class_embedding").view(1, 1, -1), tokens], 1)
        hidden = hidden + torch.cat([table[:1], grid[0].flatten(1).t()])
        hidden = F.layer_norm(
            hidden,
            (width,),
            self._get("vision_model.pre_layrnorm.weight"),
            self._get("vision_model.pre_layrnorm.bias"),
            1e-5,
        )
        for layer in self.clip_layers:
            hidden = layer(hidden, None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        fused = torch.cat([hidden[:, 1:], tokens], -1)
        return F.linear(fused, self._get("projector.layers.weight"), self._get("projector.layers.bias"))[0]

    def image_tokens(self, global_view: Tensor, tiles: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Tiles stitched to one grid, then the global view, each row closed by the newline; then the separator."""
        newline = self._get("image_newline")[None]
        parts = []
        if tiles is not None:
            columns, rows = grid
            features = torch.stack([self.view_tokens(tile) for tile in tiles])
            side = int(features.shape[1] ** 0.5)
            square = features.view(rows, columns, side, side, -1).permute(0, 2, 1, 3, 4)
            for row in square.reshape(rows * side, columns * side, -1):
                parts += [row, newline]
        tokens = self.view_tokens(global_view)
        side = int(tokens.shape[0] ** 0.5)
        for row in tokens.view(side, side, -1):
            parts += [row, newline]
        return torch.cat([*parts, self._get("view_seperator")[None]])

    def logits(self, input_ids: Tensor, images: list, attention_mask: Tensor) -> Tensor:
        rows = []
        for ids, row in zip(input_ids, images, strict=True):
            embedded = self.text.embed_tokens(ids)
            if row:
                tokens = torch.cat([self.image_tokens(i.global_view, i.tiles, i.grid) for i in row])
                place = (ids == self.image_token_id).nonzero()[:, 0]
                embedded = embedded.index_copy(0, place, tokens)
            rows.append(embedded)
        hidden = self.text(
            inputs_embeds=torch.stack(rows), attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        return F.linear(hidden, self._get("lm_head.weight"))
