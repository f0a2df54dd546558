"""Low-rank adapters in training: which layers of a stage get them, how they start, and the way back to a plain model.

    weight of a layer = W + B·A · alpha / rank        W stays as it was, A [rank, in] and B [out, rank] train

What is special here:
- The adapters lie beside their layer under peft's names, `LAYER.lora_A.default.weight`; the layer keeps its own name in
  checkpoints. So `init=` takes any model, and a checkpoint of the run holds both.
- Whoever takes weights out of such a checkpoint (export, `init=` of another run, the reading test) gets the sum.
- A starts random, seeded per layer, the same under every cut; B starts at zero, so the model starts as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
import torch.nn as nn
from torch import Tensor

from data_engine.errors import ConfigError
from model.lora import TARGETS, LoraError, inject_adapters, is_adapter, merged_weight
from train.checkpoint import Checkpoint
from train.pipeline_layers import StageLayer
from train.settings import Lora

DOWN, UP = ".lora_A.default.weight", ".lora_B.default.weight"


def add_adapters(layer: StageLayer, settings: Lora, generator: torch.Generator | None) -> None:
    """Give the targets in one layer of the pipeline their adapters and freeze everything else in it.

    Args:
        generator: what A is drawn from; None: left as it is, where only shapes count.

    Raises:
        ConfigError: peft is not installed.
    """
    wanted = re.compile("|".join(TARGETS[target] for target in settings.targets))
    chosen = [
        name
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) and wanted.fullmatch(layer.checkpoint_name(name))
    ]
    if chosen:
        try:
            # peft draws from the global generator, which is not ours to advance.
            with torch.random.fork_rng(devices=[]):
                inject_adapters(layer, "|".join(map(re.escape, chosen)), settings.rank, settings.alpha)
        except LoraError as error:
            raise ConfigError(f"lora.rank={settings.rank}: {error}") from error
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(is_adapter(name))
        if generator is not None and name.endswith(DOWN):
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)


def merge_adapters(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Weights under the names of a plain model; those with an adapter are the sum."""
    plain = {name: tensor for name, tensor in weights.items() if not is_adapter(name)}
    for name, down in weights.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            base = plain[f"{layer}.weight"]
            plain[f"{layer}.weight"] = merged_weight(base, down, weights[layer + UP], scale)
    return plain


def plain_names(checkpoint: Checkpoint) -> list[str]:
    """Names of a checkpoint's tensors without those of adapters."""
    return [name for name in checkpoint.manifest["tensors"] if not is_adapter(name)]


def plain_weights(checkpoint: Checkpoint, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """(name, weight) of a checkpoint, each with its adapter added, one after the other."""
    layers = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    wanted = {
        layer + end: ["weight"] for layer in layers for end in (DOWN, UP) if layer + end in checkpoint.names
    }
    adapters = {name: tensor for _, name, tensor in checkpoint.read(wanted)}
    scale = checkpoint.manifest.get("lora_scale", 0.0)
    for _, name, tensor in checkpoint.read({name: ["weight"] for name in names}):
        layer = name.removesuffix(".weight")
        if layer + DOWN in adapters:
            tensor = merged_weight(tensor, adapters[layer + DOWN], adapters[layer + UP], scale)
        yield name, tensor
