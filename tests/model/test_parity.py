"""Our logits, loss and gradients against an independent composition of transformers' classes, in fp32."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from model import DeepseekOCR
from model.moe import MixtureOfExperts, balance_loss
from model.views import ImageViews

from .conftest import random_views, row_of

pytest.importorskip(
    "transformers.models.deepseek_ocr2", reason="this transformers has no native classes to compare"
)

from .reference import Reference


@pytest.fixture(scope="module")
def pair() -> tuple[DeepseekOCR, Reference]:
    """A window of 3 on grids of 4, 8 and 16 patches pads every time; positions are stored for 128 px."""
    from model.config import DeepseekOCRConfig

    nano = DeepseekOCRConfig.preset("nano")
    sam = dataclasses.replace(nano.sam, num_layers=4, window_size=3, global_attn_indexes=(1, 3))
    language = dataclasses.replace(nano.language, n_shared_experts=2, num_experts_per_tok=3)
    ocr = DeepseekOCR(dataclasses.replace(nano, sam=sam, language=language)).initialise(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in ocr.named_parameters():
            # Norms, biases and relative positions start as identities; a comparison must not.
            if parameter.ndim == 1 or "rel_pos" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return ocr, Reference(ocr)


def _case(name: str) -> list[list[ImageViews]]:
    return {
        "base": [[random_views(128, seed=1)]],
        "large: positions interpolated up": [[random_views(256, seed=2)]],
        "tiny: positions interpolated down": [[random_views(64, seed=3)]],
        "gundam beside an untiled sample": [
            [random_views(256, 128, (2, 3), seed=4)],
            [random_views(128, seed=5)],
        ],
        "several images and text only": [[], [random_views(128, seed=6), random_views(192, seed=7)]],
        "text only": [[]],
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "base",
        "large: positions interpolated up",
        "tiny: positions interpolated down",
        "gundam beside an untiled sample",
        "several images and text only",
        "text only",
    ],
)
def test_logits_loss_and_gradients(pair, name):
    ocr, reference = pair
    images = _case(name)
    rows = [row_of(ocr.config, row, list(range(20 + 9 * n, 27 + 10 * n))) for n, row in enumerate(images)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [2] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = ids.masked_fill((mask == 0) | (ids == ocr.config.image_token_id), -100)

    ocr.zero_grad(set_to_none=True)
    reference.zero_grad(set_to_none=True)
    ocr.train()
    ours = ocr(ids, images, attention_mask=mask, labels=labels)
    assert ours.loss is not None
    ours.loss.backward()

    routed = _record_routing(reference)
    logits = reference.logits(ids, images, mask)
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    loss = F.cross_entropy(logits.flatten(0, 1), shifted.flatten(), ignore_index=-100)
    balance = reference.alpha * sum(
        balance_loss(probabilities.view(*ids.shape, -1), chosen.view(*ids.shape, -1), mask)
        for probabilities, chosen in routed()
    )
    (loss + balance).backward()

    real = mask.bool()
    scale = logits[real].abs().max()
    assert (ours.logits[real] - logits[real]).abs().max() / scale < 1e-5
    torch.testing.assert_close(ours.loss, loss, rtol=1e-5, atol=1e-6)
    _compare_gradients(ocr, reference)


def _record_routing(reference: Reference):
    """Probabilities and choices of every mixture in the next pass, from the hidden states its router saw."""
    seen: list = []
    hooks = []
    for layer in reference.text.layers:
        router = getattr(layer.mlp, "gate", None)
        if router is None:
            continue

        def record(module, arguments, output):
            hidden = arguments[0].reshape(-1, arguments[0].shape[-1])
            probabilities = F.linear(hidden.float(), module.weight.float()).softmax(-1)
            seen.append((probabilities, probabilities.topk(reference.top_k, -1).indices))

        hooks.append(router.register_forward_hook(record))

    def routed():
        for hook in hooks:
            hook.remove()
        return seen

    return routed


def _compare_gradients(ocr: DeepseekOCR, reference: Reference) -> None:
    ours = dict(ocr.named_parameters())
    compared = 0
    for key, (parameter, third) in reference.names.items():
        name = key.partition("#")[0]
        gradient = ours[name].grad
        if parameter.grad is None:
            assert gradient is None or gradient.abs().max() == 0, name
            continue
        assert gradient is not None, name
        got = gradient if third is None else gradient.chunk(3)[third]
        scale = ours[name].grad.abs().max().clamp(min=1e-7)
        assert (got - parameter.grad).abs().max() / scale < 1e-5, (name, float(scale))
        compared += 1
    assert compared > 30


def test_every_parameter_has_its_counterpart(pair):
    ocr, reference = pair
    assert {key.partition("#")[0] for key in reference.names} == {name for name, _ in ocr.named_parameters()}
    assert sum(isinstance(module, MixtureOfExperts) for module in ocr.modules()) == 3
