"""What the released code cannot do: any mixture of images in a batch, gradients everywhere, packing."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
import torch.nn.functional as F

from model.attention import packed_layout
from model.loss import next_token_loss
from model.moe import MixtureOfExperts, balance_loss

from .conftest import random_views, row_of


@pytest.fixture
def batch(nano_config):
    """Text only, one image, two images of different modes (one tiled), padded right."""
    images = [
        [],
        [random_views(128, seed=1)],
        [random_views(256, 128, (2, 3), seed=2), random_views(192, seed=3)],
    ]
    rows = [
        row_of(nano_config, row, text)
        for row, text in zip(images, ([5, 6, 7], [8, 9], [10, 11, 12, 13]), strict=True)
    ]
    longest = max(map(len, rows))
    input_ids = torch.tensor([row + [2] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = input_ids.masked_fill((mask == 0) | (input_ids == nano_config.image_token_id), -100)
    return images, rows, input_ids, mask, labels


def test_gradients_reach_every_part(nano, batch):
    images, _, input_ids, mask, labels = batch
    nano(input_ids, images, attention_mask=mask, labels=labels).loss.backward()
    without = [name for name, parameter in nano.named_parameters() if parameter.grad is None]
    # The dead patch embedding is kept for the file format only.
    assert without == ["model.vision_model.embeddings.patch_embedding.weight"]
    for name in ("model.image_newline", "model.view_seperator", "model.sam_model.patch_embed.proj.weight"):
        assert nano.get_parameter(name).grad.abs().sum() > 0


def test_a_row_in_a_batch_equals_the_row_alone(nano, batch):
    images, rows, input_ids, mask, _ = batch
    nano.eval()
    together = nano(input_ids, images, attention_mask=mask).logits
    for number, row in enumerate(rows):
        alone = nano(torch.tensor([row]), [images[number]]).logits[0]
        torch.testing.assert_close(together[number, : len(row)], alone, rtol=1e-5, atol=1e-5)


def test_packed_equals_unpacked_in_logits_loss_and_gradients(nano, batch):
    images, rows, input_ids, mask, labels = batch
    nano.train()
    apart = nano(input_ids, images, attention_mask=mask, labels=labels)
    apart.loss.backward()
    gradients = {name: p.grad.clone() for name, p in nano.named_parameters() if p.grad is not None}
    nano.zero_grad()
    packed_ids = torch.tensor([list(chain.from_iterable(rows))])
    segments = torch.tensor([[n + 1 for n, row in enumerate(rows) for _ in row]])
    packed_labels = packed_ids.masked_fill(packed_ids == nano.config.image_token_id, -100)
    packed = nano(packed_ids, [list(chain.from_iterable(images))], segment_ids=segments, labels=packed_labels)
    torch.testing.assert_close(packed.loss, apart.loss, rtol=1e-6, atol=1e-6)
    packed.loss.backward()
    for name, gradient in gradients.items():
        scale = gradient.abs().max().clamp(min=1e-8)
        difference = (nano.get_parameter(name).grad - gradient).abs().max() / scale
        assert difference < 2e-5, (name, float(difference))


def test_no_gradient_flows_between_packed_samples(nano):
    ids = torch.tensor([[0, 5, 6, 0, 7, 8]])
    embedded = nano.model.embed_tokens(ids).detach().requires_grad_()
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]])
    layout = packed_layout(torch.tensor([[1, 1, 1, 2, 2, 2]]), positions, nano.config.language)
    nano.eval()
    nano.decode(embedded, layout)[0, 3:].sum().backward()
    assert embedded.grad[0, :3].abs().max() == 0
    assert embedded.grad[0, 3:].abs().max() > 0


def test_long_rows_attend_sample_by_sample_as_through_the_mask(nano, monkeypatch):
    """Two packed rows with padding: outputs and gradients of both ways."""
    lengths = ((3, 20, 9), (17, 1, 8, 6))
    rows = [[n + 1 for n, length in enumerate(row) for _ in range(length)] for row in lengths]
    segments = torch.tensor([[*row, *[0] * (40 - len(row))] for row in rows])
    positions = torch.arange(40).expand(2, -1)
    embedded = torch.randn(2, 40, nano.config.language.hidden_size)
    nano.eval()
    results = {}
    for runs_from in (1, 1000):
        monkeypatch.setattr("model.attention.RUNS_FROM", runs_from)
        layout = packed_layout(segments, positions, nano.config.language)
        nano.zero_grad()
        hidden = nano.decode(embedded, layout)
        hidden.square().sum().backward()
        gradient = nano.model.layers[0].self_attn.q_proj.weight.grad
        results[runs_from] = hidden.detach(), gradient.clone(), layout
    torch.testing.assert_close(results[1][0], results[1000][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results[1][1], results[1000][1], rtol=1e-4, atol=1e-4)
    assert results[1000][2].starts is None
    assert results[1][2].cumulative_lengths.tolist() == [0, 3, 23, 32, 40, 57, 58, 66, 72, 80]


def test_placeholders_must_match_the_images(nano, nano_config):
    image = random_views(128)
    row = row_of(nano_config, [image], [5])
    with pytest.raises(ValueError, match="holds 7 image placeholders but its 0 images need 0"):
        nano(torch.tensor([row]), [[]])
    with pytest.raises(ValueError, match="built for 1024"):
        nano(torch.zeros(1, 1025, dtype=torch.long))


def test_chunked_loss_and_its_gradients_equal_plain_cross_entropy(monkeypatch):
    monkeypatch.setattr("model.loss.CHUNK", 7)
    torch.manual_seed(0)
    hidden = torch.randn(40, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 50, (40,))
    labels[::3] = -100
    ours = next_token_loss(hidden, weight, labels)
    (ours * 0.3).backward()
    got = hidden.grad.clone(), weight.grad.clone()
    hidden.grad = weight.grad = None
    expected = F.cross_entropy(F.linear(hidden, weight), labels, reduction="sum")
    (expected * 0.3).backward()
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got[0], hidden.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got[1], weight.grad, rtol=1e-5, atol=1e-6)


def test_loss_without_any_label_is_zero_with_zero_gradients():
    hidden = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(10, 8, requires_grad=True)
    next_token_loss(hidden, weight, torch.full((4,), -100)).backward()
    assert hidden.grad.abs().max() == 0 and weight.grad.abs().max() == 0


def released_balance_loss(probabilities, chosen):
    """The formula as published, for rows without padding: mean over rows of sum(share · E · mean probability)."""
    batch, length, experts = probabilities.shape
    total = 0.0
    for row in range(batch):
        for expert in range(experts):
            share = (chosen[row] == expert).sum() / (length * chosen.shape[-1] / experts)
            total = total + share * probabilities[row, :, expert].mean()
    return total / batch


def test_balance_loss_is_the_released_formula_and_does_not_depend_on_packing():
    torch.manual_seed(0)
    probabilities = torch.randn(3, 10, 6).softmax(-1)
    chosen = probabilities.topk(2, -1).indices
    ones = torch.ones(3, 10, dtype=torch.long)
    expected = released_balance_loss(probabilities, chosen)
    torch.testing.assert_close(balance_loss(probabilities, chosen, ones), expected)
    packed = balance_loss(
        probabilities.reshape(1, 30, 6),
        chosen.reshape(1, 30, 2),
        torch.tensor([[1] * 10 + [2] * 10 + [3] * 10]),
    )
    torch.testing.assert_close(packed, expected)
    padded = F.pad(probabilities, (0, 0, 0, 5), value=1 / 6)
    padded_choice = F.pad(chosen, (0, 0, 0, 5))
    segments = F.pad(ones, (0, 5))
    torch.testing.assert_close(balance_loss(padded, padded_choice, segments), expected)


def test_balance_gradient_is_injected_and_not_reported(nano):
    layer = next(m for m in nano.modules() if isinstance(m, MixtureOfExperts))
    hidden = torch.randn(2, 9, nano.config.language.hidden_size)
    segments = torch.ones(2, 9, dtype=torch.long)
    nano.train()
    layer.balance_scale = 0.5
    layer(hidden, segments).mul(0).sum().backward()
    injected = layer.gate.weight.grad.clone()
    layer.zero_grad()
    probabilities = F.linear(hidden, layer.gate.weight).softmax(-1)
    chosen = probabilities.topk(2, -1).indices
    alpha = nano.config.language.aux_loss_alpha
    (0.5 * alpha * balance_loss(probabilities, chosen, segments)).backward()
    torch.testing.assert_close(injected, layer.gate.weight.grad)
    assert int(layer.last_expert_load.sum()) == 2 * 9 * 2


def test_experts_equal_a_loop_over_tokens(nano):
    layer = next(m for m in nano.modules() if isinstance(m, MixtureOfExperts)).eval()
    hidden = torch.randn(1, 5, nano.config.language.hidden_size)
    got = layer(hidden, torch.ones(1, 5, dtype=torch.long))
    probabilities = F.linear(hidden[0], layer.gate.weight).softmax(-1)
    for token in range(5):
        weights, chosen = probabilities[token].topk(2)
        expected = layer.shared_experts(hidden[0, token])
        for weight, expert in zip(weights, chosen, strict=True):
            gate, up = (layer.experts.gate_up_proj[expert] @ hidden[0, token]).chunk(2)
            expected = expected + weight * (layer.experts.down_proj[expert] @ (F.silu(gate) * up))
        torch.testing.assert_close(got[0, token], expected, rtol=1e-4, atol=1e-6)
