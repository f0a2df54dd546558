"""The planner's bytes against what autograd really saves, and its FLOPs against torch's counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from model.activations import (
    clip_activations,
    decoder_layer_activations,
    head_activations,
    projector_activations,
    sam_activations,
)
from model.attention import RUNS_FROM, packed_layout
from model.clip import ClipEncoder
from model.config import DecoderConfig, DeepseekOCRConfig
from model.decoder import DecoderLayer, RmsNorm
from model.deepencoder import Projector, encode_features
from model.flops import backward_flops, clip_flops, decoder_layer_flops, head_flops, head_training_flops
from model.loss import next_token_loss
from model.sam import SamVisionTokenizer

NANO = DeepseekOCRConfig.preset("nano")
LANGUAGE = DecoderConfig(
    vocab_size=1024, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=384,
    moe_intermediate_size=96, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
)  # fmt: skip
TOKENS = 256
PRECISIONS = [(torch.float32, 4), (torch.bfloat16, 2)]


def saved_bytes(module: nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that autograd saves, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            saved[address] = tensor  # held, so that no address is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def started(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, 0.02)
    return module.to(dtype)


def decoder_layer(
    index: int, dtype: torch.dtype, segments: list[int]
) -> tuple[nn.Module, Callable[[], Tensor]]:
    layer = started(DecoderLayer(LANGUAGE, index), dtype)
    ids = torch.repeat_interleave(torch.arange(1, len(segments) + 1), torch.tensor(segments))
    positions = torch.cat([torch.arange(length) for length in segments])
    layout = packed_layout(ids[None].int(), positions[None].int(), LANGUAGE)
    hidden = torch.randn(1, sum(segments), LANGUAGE.hidden_size, dtype=dtype, requires_grad=True)
    return layer, lambda: layer(hidden * 1, layout)


@pytest.mark.parametrize(("dtype", "value_bytes"), PRECISIONS)
@pytest.mark.parametrize("index", [0, 1], ids=["dense", "experts"])
@pytest.mark.parametrize("segments", [[100, 156], [300, 468]], ids=["with a mask", "run by run"])
def test_a_decoder_layer_keeps_what_the_planner_says(
    index: int, dtype: torch.dtype, value_bytes: int, segments: list[int]
) -> None:
    measured = saved_bytes(*decoder_layer(index, dtype, segments))
    said = decoder_layer_activations(LANGUAGE, index, sum(segments), value_bytes).kept
    # On CPU, the outputs of the runs are kept once more in one piece; a GPU's kernel writes them in place.
    cpu = 0 if sum(segments) < RUNS_FROM else value_bytes * sum(segments) * LANGUAGE.hidden_size
    assert said + cpu == pytest.approx(measured, rel=0.06)


def test_grouped_experts_keep_what_the_planner_says() -> None:
    """The way of the GPU, which runs on a CPU too where it is called by name."""
    layer, run = decoder_layer(1, torch.bfloat16, [100, 156])
    experts = layer.mlp.experts
    one_by_one = saved_bytes(layer, run)

    def grouped(tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        expert_of = chosen.reshape(-1)
        counts = expert_of.bincount(minlength=LANGUAGE.n_routed_experts)
        return experts._grouped(tokens, weights.to(tokens.dtype), expert_of.argsort(stable=True), counts)

    experts.forward = grouped
    said = decoder_layer_activations(LANGUAGE, 1, TOKENS, 2, grouped=True).kept
    measured = saved_bytes(layer, run)
    assert measured > 1.2 * one_by_one
    assert said == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(("dtype", "value_bytes"), PRECISIONS)
def test_the_encoder_keeps_what_the_planner_says(dtype: torch.dtype, value_bytes: int) -> None:
    clip, projector = started(ClipEncoder(NANO.clip), dtype), started(Projector(256, 128), dtype)
    sam = started(SamVisionTokenizer(NANO.sam), dtype)
    both = nn.ModuleList([clip, projector])
    for side in (128, 192, 256):
        features = torch.randn(3, 128, side // 64, side // 64, dtype=dtype)
        measured = saved_bytes(both, lambda: encode_features(clip, projector, features))  # noqa: B023
        said = clip_activations(NANO.clip, side, 3, value_bytes)
        said += projector_activations(256, side, 3, value_bytes)
        assert said.kept == pytest.approx(measured, rel=0.05)
        pixels = torch.randn(2, 3, side, side, dtype=dtype)
        measured = saved_bytes(sam, lambda: sam(pixels))  # noqa: B023
        assert sam_activations(NANO.sam, side, 2, value_bytes).kept == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(("dtype", "value_bytes"), PRECISIONS)
def test_the_head_keeps_what_the_planner_says(dtype: torch.dtype, value_bytes: int) -> None:
    head = started(nn.ModuleList([RmsNorm(128, 1e-6), nn.Linear(128, 1024, bias=False)]), dtype)
    labels = torch.randint(0, 1024, (TOKENS,))
    labels[:64] = -100
    hidden = torch.randn(TOKENS, 128, dtype=dtype, requires_grad=True)
    measured = saved_bytes(head, lambda: next_token_loss(head[0](hidden * 1), head[1].weight, labels))
    said = head_activations(LANGUAGE, TOKENS, TOKENS - 64, value_bytes).kept
    assert said == pytest.approx(measured, rel=0.05)


def counted_flops(run: Callable[[], Tensor]) -> tuple[int, int]:
    """(forward, backward), as torch counts them."""
    with FlopCounterMode(display=False) as forward:
        output = run()
    with FlopCounterMode(display=False) as backward:
        output.float().sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.slow  # torch's counter takes seconds to import
@pytest.mark.parametrize("index", [0, 1], ids=["dense", "experts"])
def test_flops_of_a_decoder_layer(index: int) -> None:
    segments = [96, 160]
    forward, backward = counted_flops(decoder_layer(index, torch.float32, segments)[1])
    # torch does not count the CPU's attention kernel.
    pairs = sum(length * (length + 1) // 2 for length in segments)
    linear = decoder_layer_flops(LANGUAGE, index, segments) - 4 * pairs * LANGUAGE.hidden_size
    assert (forward, backward) == (linear, backward_flops(linear, True, True))


@pytest.mark.slow
def test_flops_of_the_global_encoder() -> None:
    clip = started(ClipEncoder(NANO.clip), torch.float32)
    features = torch.randn(2, 128, 4, 4)
    forward, backward = counted_flops(lambda: clip(features))
    attention = NANO.clip.num_layers * 4 * (4 * 4 + 1) ** 2 * NANO.clip.hidden_size
    assert forward == 2 * (clip_flops(NANO.clip, 256) - attention)
    assert backward == backward_flops(forward, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False])
def test_the_head_computes_its_gradients_in_the_forward_pass(trained: bool) -> None:
    weight = torch.randn(1024, 128, requires_grad=trained)
    hidden = torch.randn(TOKENS, 128, requires_grad=True)
    labels = torch.randint(0, 1024, (TOKENS,))
    measured = counted_flops(lambda: next_token_loss(hidden, weight, labels))
    assert measured == head_training_flops(head_flops(LANGUAGE, TOKENS), trained, True)


def test_only_what_is_before_a_part_needs_the_gradient_of_its_input() -> None:
    assert [backward_flops(10, *case) for case in ((True, True), (True, False), (False, True))] == [
        20,
        20,
        10,
    ]
    assert backward_flops(10, False, False) == 0
