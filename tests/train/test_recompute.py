"""Blocks computed again in the backward pass: the same gradients, less kept; and what is refused."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from torch import Tensor

from data_engine.errors import ConfigError
from tests.train.processes import run as run_command
from tests.train.processes import succeeded
from tests.train.synthetic import IMAGE, MIXED, SHAPE, VOCABULARY, Plan
from train.assemble import assemble, model_config
from train.config import ModelChoice, TrainConfig
from train.pipeline_layers import StageLayer
from train.planning.cutting import cut_model
from train.recompute import check_compiler, compile_blocks, named_blocks, recompute_blocks

EVERYTHING = ["model.sam_model", "model.vision_model", "model.layers"]


def built(config: TrainConfig) -> list[StageLayer]:
    model = model_config(config.model, VOCABULARY, IMAGE)
    return [layer.build().train() for layer in assemble(config, model, 1)]


def run(config: TrainConfig, kind: str = MIXED) -> tuple[float, dict[str, Tensor], int]:
    """Loss, gradients, and the bytes that autograd keeps from the forward to the backward pass."""
    layers = built(config)
    (batch,) = Plan(((kind,),)).batches(0)
    kept: dict[int, int] = {}
    weights = {parameter.data_ptr() for layer in layers for parameter in layer.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(0)
    value = tuple(batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for layer in layers:
            value = layer(value)
    value.backward()
    gradients = {
        name: parameter.grad
        for layer in layers
        for name, parameter in layer.named_checkpoint_parameters()
        if parameter.grad is not None
    }
    return float(value.detach()), gradients, sum(kept.values())


@pytest.mark.parametrize(
    "model",
    [ModelChoice(), pytest.param(ModelChoice(architecture="encoder_lm"), marks=pytest.mark.slow)],
    ids=["stage 2", "stage 1"],
)
def test_gradients_are_the_same_bit_for_bit_and_less_is_kept(model: ModelChoice) -> None:
    """Stage 1's language model has dropout, which must fall on the same places the second time."""
    prefixes = EVERYTHING if model.architecture == "deepseek_ocr" else [*EVERYTHING[:2], "language_model"]
    config = TrainConfig(model=model, sequence=SHAPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loss, gradients, bytes_kept = run(config)
        again = dataclasses.replace(config, checkpoint_activations=prefixes)
        loss_again, gradients_again, bytes_again = run(again)
    finally:
        torch.set_num_threads(threads)
    assert loss_again == loss
    assert gradients_again.keys() == gradients.keys() and gradients
    assert all(torch.equal(gradients_again[name], gradients[name]) for name in gradients)
    assert bytes_again < 0.6 * bytes_kept


def test_parts_and_single_layers_can_be_named() -> None:
    config = TrainConfig(sequence=SHAPE, checkpoint_activations=["model.vision_model", "model.layers.2"])
    model = model_config(config.model, VOCABULARY, IMAGE)
    names = [layer.info.name for layer in assemble(config, model, 1) if layer.info.recomputed]
    assert names == ["global encoder", "decoder 2"]
    replaced = [
        name for layer in built(config) for name, block in named_blocks(layer) if "forward" in vars(block)
    ]
    assert replaced[-1] == "model.layers.2" and all(
        n.startswith("model.vision_model.") for n in replaced[:-1]
    )
    parameters = {name for layer in built(config) for name, _ in layer.named_checkpoint_parameters()}
    assert parameters == {name for layer in assemble(config, model, 1) for name in layer.shapes}


def test_the_planner_counts_what_is_kept() -> None:
    config = TrainConfig(sequence=SHAPE, freeze=["model.sam_model"])
    model = model_config(config.model, VOCABULARY, IMAGE)
    (plain,) = cut_model(config, model, 1).table
    (all_again,) = cut_model(
        dataclasses.replace(config, checkpoint_activations=EVERYTHING[1:]), model, 1
    ).table
    some_layers = ["model.layers.1", "model.layers.2"]
    (some,) = cut_model(dataclasses.replace(config, checkpoint_activations=some_layers), model, 1).table
    assert all_again.memory.activations < some.memory.activations < plain.memory.activations
    assert all_again.memory.total < some.memory.total < plain.memory.total


@pytest.mark.parametrize(
    ("prefix", "sentence"),
    [
        (
            "lm_head",
            "checkpoint_activations names 'lm_head', but no block of deepseek_ocr begins so; possible: ",
        ),
        ("model.layers.0.mlp", "no block of deepseek_ocr begins so"),
        ("model.layer", "no block of deepseek_ocr begins so"),
    ],
)
def test_what_names_no_block_is_refused(prefix: str, sentence: str) -> None:
    config = TrainConfig(sequence=SHAPE, checkpoint_activations=[prefix])
    with pytest.raises(ConfigError, match=sentence):
        assemble(config, model_config(config.model, VOCABULARY, IMAGE), 1)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_compiled_block_computes_the_same() -> None:
    """In a process of its own: the tests run with torch's compiler switched off."""
    succeeded(run_command([sys.executable, __file__], 250, TORCHDYNAMO_DISABLE="0"))


def compiled_against_plain() -> None:
    """The dense decoder layer, whose compilation takes seconds and not minutes; compiled, then recomputed as well."""
    layer = built(TrainConfig(sequence=SHAPE))[3]
    (batch,) = Plan(((MIXED,),)).batches(0)
    hidden = torch.randn(SHAPE.tokens, 128, generator=torch.Generator().manual_seed(1))

    def passes() -> dict[str, Tensor]:
        layer.zero_grad()
        inputs = hidden.clone().requires_grad_()
        output, _ = layer((inputs, batch.metadata))
        output.square().sum().backward()
        found = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
        return found | {"output": output.detach(), "input": inputs.grad}

    plain = passes()
    compile_blocks(layer)
    compiled = passes()
    recompute_blocks(layer, ["model.layers"])
    for other in (compiled, passes()):
        for name, tensor in plain.items():
            difference = float((other[name] - tensor).abs().max() / tensor.abs().max())
            assert difference < 1e-5, f"{name}: {difference}"


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match="compile=true needs a C\\+\\+ compiler, and 'no-such-compiler' is not"
    ):
        check_compiler()


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        (
            {"model.clip": 1e-4},
            "part_learning_rates names 'model.clip', but no parameter of deepseek_ocr begins so",
        ),
        ({"model.sam_model.blocks": 1e-4}, "gives 'model.sam_model.blocks' a rate, but freeze="),
    ],
)
def test_a_rate_for_what_is_absent_or_frozen_is_refused(rates: dict[str, float], sentence: str) -> None:
    config = TrainConfig(sequence=SHAPE, freeze=["model.sam_model"])
    config.optimizer.part_learning_rates = rates
    with pytest.raises(ConfigError, match=sentence):
        assemble(config, model_config(config.model, VOCABULARY, IMAGE), 1)


if __name__ == "__main__":
    compiled_against_plain()
