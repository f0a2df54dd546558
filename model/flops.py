"""Floating-point operations and parameters of every part: one source for MFU, the stage cut and the planner.

Matrix products only, a multiply and an add counted as two. What padding of windows costs is counted, since it
is computed; the widened queries of `model.sam` are not, since they only stand for an addition of the bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import PATCH_SIZE, ClipConfig, DecoderConfig, DeepseekOCRConfig, SamConfig
from .layout import tokens_per_view


def sam_flops(config: SamConfig, side: int) -> int:
    """Forward pass of the vision tokenizer (SAM, neck, compressor) over one view of `side` pixels."""
    grid = side // PATCH_SIZE
    patches, width = grid * grid, config.hidden_size
    total = 2 * patches * 3 * PATCH_SIZE**2 * width
    for index in range(config.num_layers):
        is_global = index in config.global_attn_indexes
        window = grid if is_global else config.window_size
        attended = (grid + -grid % window) ** 2  # patches with the padding of windows
        mlp = 2 * patches * 2 * width * int(width * config.mlp_ratio)
        projections = 2 * attended * 4 * width * width
        products = 2 * 2 * attended * window * window * width
        relative = 2 * 2 * attended * window * width
        total += mlp + projections + products + relative
    channels, (first, second) = config.out_channels, config.downsample_channels
    total += 2 * patches * (width * channels + 9 * channels * channels)
    total += 2 * patches // 4 * 9 * channels * first
    total += 2 * patches // 16 * 9 * first * second
    return total


def clip_flops(config: ClipConfig, side: int) -> int:
    """Forward pass of the global encoder over one view."""
    tokens, width = tokens_per_view(side) + 1, config.hidden_size
    linear = 4 * width * width + 2 * width * int(width * config.mlp_ratio)
    return config.num_layers * (2 * tokens * linear + 4 * tokens * tokens * width)


def projector_flops(config: DeepseekOCRConfig, side: int) -> int:
    return 2 * tokens_per_view(side) * config.projector_input * config.language.hidden_size


def decoder_layer_parameters(config: DecoderConfig, layer_index: int, active: bool) -> int:
    """Weights of one decoder layer, norms included: all of them, or those that one token passes."""
    size = config.hidden_size
    count = 4 * size * size + 2 * size
    if config.is_dense(layer_index):
        return count + 3 * size * config.intermediate_size
    experts = (config.num_experts_per_tok if active else config.n_routed_experts) + config.n_shared_experts
    return count + config.n_routed_experts * size + experts * 3 * size * config.moe_intermediate_size


def decoder_layer_flops(config: DecoderConfig, layer_index: int, segments: Sequence[int]) -> int:
    """Forward pass of one decoder layer over packed samples of these lengths (causal within each)."""
    tokens = sum(segments)
    linear = decoder_layer_parameters(config, layer_index, active=True) - 2 * config.hidden_size
    pairs = sum(length * (length + 1) // 2 for length in segments)
    return 2 * tokens * linear + 4 * pairs * config.hidden_size


def head_flops(config: DecoderConfig, labelled_tokens: int) -> int:
    """Forward pass of the head; it runs at labelled positions only."""
    return 2 * labelled_tokens * config.hidden_size * config.vocab_size


def backward_flops(forward: float, trains: bool, passes_gradient: bool) -> float:
    """Backward pass of a part: one product as large as the forward pass's for the gradient of the weights, another
    for the gradient of the input.

    Args:
        trains: some weight of the part is trained; then gradients run through all of it.
        passes_gradient: something before the part is trained.
    """
    return forward * (2 if trains else 1 if passes_gradient else 0)


def head_training_flops(forward: float, trains: bool, passes_gradient: bool) -> tuple[float, float]:
    """Forward and backward pass of head and loss: `model.loss` computes both gradients in the forward pass."""
    return forward * (1 + trains + (trains or passes_gradient)), 0.0
