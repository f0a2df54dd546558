"""The model of stage 1: DeepEncoder trained through a compact language model (paper section 3.5.1).

The paper names OPT (its reference 15) without a size; Vary, which it follows, used OPT-125M. The language
model is transformers' own OPT; it is thrown away after the stage, and the encoder moves into stage 2 by name:
`model.sam_model.*` and `model.vision_model.*` are spelled the same in both models.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from .attention import packed_mask
from .config import DeepseekOCRConfig, ModelConfigError
from .deepencoder import Projector, build_encoder, encode_views, initialise_encoder
from .deepseek_ocr import initialise_ends

_SIZES: dict[str, dict[str, int]] = {
    "nano": {
        "hidden_size": 128, "word_embed_proj_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "ffn_dim": 512, "max_position_embeddings": 1024,
    },
    "opt_125m": {
        "hidden_size": 768, "word_embed_proj_dim": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "ffn_dim": 3072, "max_position_embeddings": 4096,
    },
}  # fmt: skip


def compact_language_model(name: str | os.PathLike, vocab_size: int) -> OPTForCausalLM:
    """An OPT by preset name (`nano`, `opt_125m`; random parameters) or from a local directory.

    Raises:
        ModelConfigError: neither a preset nor a directory, or the vocabularies differ.
    """
    if str(name) in _SIZES:
        settings: dict[str, Any] = dict(_SIZES[str(name)], vocab_size=vocab_size)
        # No dropout: the data is seen once or twice. OPT's fixed 0.02 is made for wide models; in a narrow one its
        # positions are too faint to tell the vision tokens apart (see `initialise_encoder`).
        deviation = settings["hidden_size"] ** -0.5
        config = OPTConfig(dropout=0.0, attention_dropout=0.0, layerdrop=0.0, init_std=deviation, **settings)
        return OPTForCausalLM(config)
    if not (Path(name) / "config.json").is_file():
        raise ModelConfigError(
            f"'{name}' is neither a compact language model preset ({', '.join(_SIZES)}) nor a directory with "
            "config.json; give one of the two."
        )
    language_model = OPTForCausalLM.from_pretrained(name, local_files_only=True, dtype=torch.float32)
    if language_model.config.vocab_size < vocab_size:
        # Ids beyond the pretrained vocabulary (image, boxes, table cells) start as new rows.
        language_model.resize_token_embeddings(vocab_size)
    return language_model


class EncoderLanguageModelBody(nn.Module):
    """Encoder, projector, and row ends; names as in `DeepseekOCRModel`."""

    def __init__(self, config: DeepseekOCRConfig, hidden_size: int) -> None:
        super().__init__()
        self.sam_model, self.vision_model = build_encoder(config)
        self.projector = Projector(config.projector_input, hidden_size)
        self.image_newline = nn.Parameter(torch.empty(hidden_size))
        self.view_seperator = nn.Parameter(torch.empty(hidden_size))


class EncoderLanguageModel(nn.Module):
    """DeepEncoder and a compact language model, for next-token prediction over packed sequences."""

    def __init__(self, config: DeepseekOCRConfig, language_model: OPTForCausalLM) -> None:
        super().__init__()
        self.config = config
        self.model = EncoderLanguageModelBody(config, language_model.config.hidden_size)
        self.language_model = language_model

    def initialise_encoder(self, seed: int) -> EncoderLanguageModel:
        """Random encoder, projector and row ends; the language model keeps what it has."""
        generator = torch.Generator().manual_seed(seed)
        body = self.model
        initialise_encoder(body.sam_model, body.vision_model, generator)
        with torch.no_grad():
            body.projector.layers.weight.normal_(0.0, 0.02, generator=generator)
            body.projector.layers.bias.zero_()
        initialise_ends(body.image_newline, body.view_seperator, generator)
        return self

    def vision_tokens(self, views: Sequence[Tensor]) -> Tensor:
        """[V + 2, H]: tokens of all views, newline, separator."""
        body = self.model
        ends = torch.stack([body.image_newline, body.view_seperator])
        if not views:
            return ends
        return torch.cat([encode_views(body.sam_model, body.vision_model, body.projector, views), ends])


def packed_hidden_states(
    language_model: OPTForCausalLM,
    input_ids: Tensor,
    vision_index: Tensor,
    vision: Tensor,
    segment_ids: Tensor,
    position_ids: Tensor,
) -> Tensor:
    """Run the compact language model over packed samples that do not see each other.

    Args:
        input_ids: int [B, S].
        vision_index: int [B, S]; row of `vision` at a placeholder, -1 at text.
        vision: [rows, H].
        segment_ids: int [B, S]; 0 = padding.
        position_ids: int [B, S]; restart at 0 in every segment.

    Returns:
        [B, S, H] after the final norm; `next_token_loss(hidden, language_model.lm_head.weight, labels)` follows.
    """
    decoder = language_model.model.decoder
    embedded = decoder.embed_tokens(input_ids)
    hidden = torch.where((vision_index >= 0)[..., None], vision[vision_index.clamp(min=0)], embedded)
    # Without a cache of keys and values: no one reads it, and a block that is computed again would fill it twice.
    return decoder(
        inputs_embeds=hidden,
        attention_mask=packed_mask(segment_ids),
        position_ids=position_ids,
        use_cache=False,
    ).last_hidden_state
