"""Adapters through peft: only they train, the merged model computes the same, and the export holds the sum."""

from __future__ import annotations

import builtins
import importlib.util

import pytest
import torch
from safetensors.torch import load_file

import model as ocr
from model import DeepseekOCR
from model.convert import WEIGHTS_NAME
from model.lora import LoraError, add_lora, has_lora, merge_lora, merged_parameters

from .conftest import random_views, row_of

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None,
    reason="peft is not installed; it comes with the extra 'lora'",
)


@pytest.fixture
def batch(nano_config):
    image = random_views(128, seed=1)
    ids = torch.tensor([row_of(nano_config, [image], [5, 6, 7, 8])])
    return ids, [[image]], ids.masked_fill(ids == nano_config.image_token_id, -100)


def trained(model: DeepseekOCR, batch, **options) -> int:
    """Adapters that have moved: B is no longer zero."""
    count = add_lora(model, rank=4, alpha=12, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0.0, 0.1, generator=generator)
    return count


@needs_peft
def test_adapters_change_nothing_at_first_and_gradients_reach_only_them(nano, batch):
    ids, images, labels = batch
    before = nano.eval()(ids, images).logits.detach()
    count = add_lora(nano, rank=4)
    torch.testing.assert_close(nano(ids, images).logits, before, rtol=0, atol=0)
    nano.train()(ids, images, labels=labels).loss.backward()
    with_gradient = {name for name, p in nano.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in nano.named_parameters() if ".lora_" in name}
    assert count == sum(nano.get_parameter(name).numel() for name in with_gradient)
    layers = {name.split(".lora_")[0] for name in with_gradient}
    per_layer = {f"self_attn.{letter}_proj" for letter in "qkvo"}
    shared = {f"mlp.shared_experts.{name}_proj" for name in ("gate", "up", "down")}
    expected = {f"model.layers.{n}.{name}" for n in range(4) for name in per_layer}
    expected |= {f"model.layers.{n}.{name}" for n in range(1, 4) for name in shared}
    assert layers == expected | {"model.projector.layers"}


@needs_peft
def test_merging_gives_a_plain_model_with_the_same_logits(nano, nano_config, batch):
    ids, images, labels = batch
    trained(nano, batch)
    tuned = nano.eval()(ids, images).logits.detach()
    assert merge_lora(nano) is nano
    torch.testing.assert_close(nano(ids, images).logits, tuned, rtol=1e-4, atol=1e-5)
    plain = DeepseekOCR(nano_config)
    assert [name for name, _ in nano.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [type(module) for module in nano.modules()] == [type(module) for module in plain.modules()]
    assert [p.requires_grad for p in nano.parameters()] == [p.requires_grad for p in plain.parameters()]
    assert not hasattr(nano, "peft_config")
    nano.train()(ids, images, labels=labels).loss.backward()
    add_lora(nano, targets=["projector"])  # and it may begin again


@needs_peft
def test_the_export_is_base_plus_the_scaled_product_and_leaves_the_adapters(nano, batch, tmp_path):
    base = {name: parameter.detach().clone() for name, parameter in nano.named_parameters()}
    trained(nano, batch, targets=["attention", "projector"])
    ocr.save(nano, tmp_path / "out", dtype=torch.float32)
    assert has_lora(nano)
    written = load_file(tmp_path / "out" / WEIGHTS_NAME)
    moved = 0
    for name, value in base.items():
        layer = name.removesuffix(".weight")
        if name != layer and f"{layer}.lora_A.default.weight" in dict(nano.named_parameters()):
            up = nano.get_parameter(f"{layer}.lora_B.default.weight")
            down = nano.get_parameter(f"{layer}.lora_A.default.weight")
            torch.testing.assert_close(written[name], value + up @ down * (12 / 4), rtol=1e-5, atol=1e-6)
            assert not torch.equal(written[name], value)
            moved += 1
        elif name in written:
            assert torch.equal(written[name], value), name
    assert moved == 4 * 4 + 1
    assert torch.equal(written["model.projector.layers.bias"], base["model.projector.layers.bias"])
    assert torch.equal(ocr.load(tmp_path / "out").lm_head.weight, base["lm_head.weight"])


@needs_peft
def test_adapters_are_neither_stacked_nor_merged_twice(nano):
    with pytest.raises(LoraError, match="no adapters to merge"):
        merge_lora(nano)
    add_lora(nano)
    with pytest.raises(LoraError, match="has adapters already"):
        add_lora(nano)


def test_an_unknown_target_lists_the_possible_ones(nano):
    for targets in (["experts"], []):
        with pytest.raises(LoraError, match="attention, shared_experts, projector"):
            add_lora(nano, targets=targets)


def test_without_peft_one_sentence_says_what_to_install(nano, monkeypatch):
    usual = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "peft":
            raise ImportError(name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoraError, match=r"pip install -e '.\[lora\]'"):
        add_lora(nano)
    assert all(parameter.requires_grad for parameter in nano.model.layers.parameters()), "nothing was frozen"


def test_a_plain_model_is_its_own_merger(nano):
    assert {name: id(p) for name, p in merged_parameters(nano).items()} == {
        name: id(p) for name, p in nano.named_parameters()
    }
