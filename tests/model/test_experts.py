import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import DecoderConfig
from model.experts import StackedExperts

SIZES = DecoderConfig(
    vocab_size=8, hidden_size=16, num_attention_heads=2, moe_intermediate_size=24, n_routed_experts=5,
    num_experts_per_tok=2,
)  # fmt: skip


def layer(dtype: torch.dtype = torch.float64) -> StackedExperts:
    torch.manual_seed(1)
    experts = StackedExperts(SIZES).to(dtype)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return experts


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, experts of which number 3 is idle, and weights."""
    torch.manual_seed(2)
    tokens = torch.randn(11, 16, dtype=dtype, requires_grad=True)
    chosen = torch.tensor([0, 1, 2, 4])[torch.rand(11, 4).argsort(-1)[:, :2]]
    return tokens, chosen, torch.rand(11, 2, dtype=dtype, requires_grad=True)


def plain(experts: StackedExperts, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Every token through every expert, then the chosen ones."""
    gate, up = torch.einsum("nh,eih->nei", tokens, experts.gate_up_proj).chunk(2, -1)
    every = torch.einsum("nei,ehi->neh", F.silu(gate) * up, experts.down_proj)
    return (every[torch.arange(len(tokens))[:, None], chosen] * weights[..., None]).sum(1)


def gradients(experts: StackedExperts, way, given: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    tokens, chosen, weights = given
    variables = [tokens, weights, *experts.parameters()]
    output = way(tokens, chosen, weights)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, variables, upstream)]


def test_expert_by_expert_equals_every_expert_for_every_token():
    experts, given = layer(), inputs()
    expected = gradients(experts, lambda *a: plain(experts, *a), given)
    got = gradients(experts, experts, given)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert got[3][3].abs().max() == 0, "the gradient of an idle expert is zero, not missing"


def test_the_grouped_products_of_a_gpu_compute_the_same(monkeypatch):
    experts, given = layer(torch.float32), inputs(torch.float32)
    expected = gradients(experts, experts, given)

    def grouped(tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        order = chosen.reshape(-1).argsort(stable=True)
        return experts._grouped(tokens, weights, order, chosen.reshape(-1).bincount(minlength=5))

    for ours, theirs in zip(gradients(experts, grouped, given), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["gate_up_proj", "down_proj"])
def test_a_frozen_weight_gets_no_gradient_and_changes_no_other(frozen):
    experts, given = layer(), inputs()
    _, to_tokens, to_weights, *_ = gradients(experts, experts, given)
    experts.get_parameter(frozen).requires_grad_(False)
    tokens, chosen, weights = given
    experts(tokens, chosen, weights).backward(
        torch.randn(11, 16, generator=torch.Generator().manual_seed(3)).double()
    )
    assert experts.get_parameter(frozen).grad is None
    assert torch.equal(tokens.grad, to_tokens) and torch.equal(weights.grad, to_weights)
