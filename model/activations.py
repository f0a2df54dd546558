"""Bytes that autograd keeps from the forward to the backward pass, for every part: what the planner reckons with.

The formulas follow the code of this room tensor by tensor; `tests/model/test_activations.py` holds them against
what autograd really saves. Weights are not counted, nor what a kernel needs only while it runs.

    b bytes of a value (2 in bf16, 4 in fp32); fp32 where the code computes in fp32 (norms, router)
"""

from __future__ import annotations

from dataclasses import dataclass

from .attention import RUNS_FROM
from .config import PATCH_SIZE, ClipConfig, DecoderConfig, SamConfig
from .layout import tokens_per_view
from .loss import CHUNK

FP32 = 4


@dataclass(frozen=True)
class Activations:
    """Bytes of one part and one micro-batch; not whole numbers when the images are a mean."""

    kept: float = 0
    """Kept until the backward pass when nothing is recomputed."""
    inputs: float = 0
    """Kept when every block is recomputed in the backward pass: the inputs of the blocks."""
    block: float = 0
    """Kept for a moment by the largest block while it is recomputed."""

    def __add__(self, other: Activations) -> Activations:
        return Activations(self.kept + other.kept, self.inputs + other.inputs, max(self.block, other.block))


def decoder_layer_activations(
    config: DecoderConfig, layer_index: int, tokens: int, value_bytes: int, grouped: bool = False
) -> Activations:
    """One decoder layer over a packed sequence.

    Args:
        grouped: experts in one grouped product (bf16 on CUDA); otherwise one after the other.
    """
    b, hidden = value_bytes, config.hidden_size
    norm = FP32 * hidden + FP32 + 2 * b * hidden  # input in fp32, deviation, normed, times weight
    attention = (
        4 * b * hidden + FP32 * config.num_attention_heads
    )  # query, key, value, output; normaliser per head
    if tokens < RUNS_FROM:
        attention += b * tokens  # one row of the additive mask, which no layer shares
    dense = config.is_dense(layer_index)
    mlp = _gated_mlp(config.intermediate_size, b) if dense else _experts(config, b, grouped)
    kept = tokens * (2 * norm + attention + mlp)
    return Activations(kept, tokens * hidden * b, kept)


def _gated_mlp(width: int, value_bytes: int) -> int:
    """Per token: gate, up, SiLU of the gate, product."""
    return 4 * width * value_bytes


def _experts(config: DecoderConfig, value_bytes: int, grouped: bool) -> int:
    """Per token: router, routed experts, shared experts."""
    b, hidden, top_k = value_bytes, config.hidden_size, config.num_experts_per_tok
    width, experts = config.moe_intermediate_size, config.n_routed_experts
    router = (FP32 * hidden if b < FP32 else 0) + 2 * FP32 * experts + 8
    choice = 8 + 8 + b  # expert, place among the sorted choices, weight
    if grouped:
        # The tokens sorted by expert, the experts' outputs, and the way back.
        choice += 8 + 2 * b * hidden + _gated_mlp(width, b)
    else:
        choice += 2 * b * width  # gate and up; all else is computed again
    return router + top_k * choice + _gated_mlp(config.n_shared_experts * width, b)


def head_activations(config: DecoderConfig, tokens: int, labelled: int, value_bytes: int) -> Activations:
    """Final norm and loss, which computes its gradients in the forward pass and keeps them."""
    hidden, b = config.hidden_size, value_bytes
    norm = tokens * (FP32 * hidden + FP32 + b * hidden)
    kept = norm + labelled * (hidden * b + 2 * 8) + FP32 * hidden * config.vocab_size
    return Activations(kept, kept)


def head_working_bytes(config: DecoderConfig, labelled: int, value_bytes: int) -> int:
    """What the loss needs besides while it runs: a chunk of logits and of their slopes, and the product with it."""
    rows = min(CHUNK, labelled)
    logits = rows * config.vocab_size * (FP32 + value_bytes)
    product = config.hidden_size * config.vocab_size * (FP32 + value_bytes)
    return logits + product if labelled else 0


def clip_activations(config: ClipConfig, side: int, views: float, value_bytes: int) -> Activations:
    """The global encoder over `views` views of one side."""
    tokens, width, b = tokens_per_view(side) + 1, config.hidden_size, value_bytes
    mlp = int(width * config.mlp_ratio)
    # Two norms (input, output, two statistics), query, key, value, output, normaliser; MLP: in, sigmoid, product.
    layer = b * (2 * 2 * width + 3 * width + width + 3 * mlp) + 2 * 2 * FP32 + FP32 * config.num_heads
    block = views * tokens * layer
    ends = views * tokens * (width * b + 2 * FP32)
    return Activations(
        config.num_layers * block + ends, config.num_layers * views * tokens * width * b + ends, block
    )


def projector_activations(input_size: int, side: int, views: float, value_bytes: int) -> Activations:
    kept = views * tokens_per_view(side) * input_size * value_bytes
    return Activations(kept, kept)


def sam_activations(config: SamConfig, side: int, views: float, value_bytes: int) -> Activations:
    """The vision tokenizer over `views` views, when it is trained; frozen it keeps nothing."""
    grid, width, b = side // PATCH_SIZE, config.hidden_size, value_bytes
    patches, mlp = grid * grid, int(width * config.mlp_ratio)
    kept, block = views * patches * 3 * PATCH_SIZE**2 * b, 0.0
    for index in range(config.num_layers):
        window = grid if index in config.global_attn_indexes else config.window_size
        attended = (grid + -grid % window) ** 2
        # Widened heads (see `model.sam`): query, key, value and output of the attention kernel.
        head = width // config.num_heads + 2 * window
        head += -head % 8
        attention = b * (2 * width + 4 * config.num_heads * head) + FP32 * config.num_heads
        # Input of the projections and of the output projection; queries once more for each of the two biases.
        layer = attended * (attention + 2 * b * width)
        layer += patches * (b * (3 * width + 2 * mlp) + 4 * FP32)
        kept, block = kept + views * layer, max(block, views * layer)
    channels, (first, _) = config.out_channels, config.downsample_channels
    neck = patches * b * (width + 4 * channels) + patches // 4 * b * first
    kept += views * neck
    inputs = views * (config.num_layers * patches * width * b + neck)
    return Activations(kept, inputs, block)
