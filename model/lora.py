"""Low-rank adapters through `peft` (optional: `pip install -e '.[lora]'`), and back to a plain model.

    add_lora(ocr, rank=16, alpha=32)        # only the adapters train now
    ...
    model.save(ocr, "tuned")                # the file holds base + B·A·alpha/rank, ready for every consumer
    merge_lora(ocr)                         # the same in memory: a plain DeepseekOCR again

Routed experts and the router get no adapters: the experts are stacked (no linear layers), and moving the router
with a few samples unbalances it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from .deepseek_ocr import DeepseekOCR
from .meta import shapes_only

ADAPTER = "default"
TARGETS = {
    "attention": r"model\.layers\.\d+\.self_attn\.[qkvo]_proj",
    "shared_experts": r"model\.layers\.\d+\.mlp\.shared_experts\.(gate|up|down)_proj",
    "projector": r"model\.projector\.layers",
}
"""Name of a target -> the linear layers it stands for."""


class LoraError(ValueError):
    """peft is missing, a target is unknown, or the model is not in the state that was expected."""


def add_lora(
    model: DeepseekOCR, rank: int = 16, alpha: int = 32, targets: Sequence[str] = tuple(TARGETS)
) -> int:
    """Add adapters in place and freeze everything else. At first they change nothing: B starts at zero.

    Args:
        alpha: the update is scaled by alpha / rank.
        targets: some of `TARGETS`.

    Returns:
        Number of parameters that train.

    Raises:
        LoraError: peft is not installed, a target is unknown, or there are adapters already.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise LoraError(
            f"LoRA targets {list(targets)} are not some of {', '.join(TARGETS)}; choose from these."
        )
    if has_lora(model):
        raise LoraError("the model has adapters already; merge_lora(model) first.")
    inject_adapters(model, "|".join(TARGETS[target] for target in targets), rank, alpha)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name))
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def inject_adapters(module: nn.Module, layers: str, rank: int, alpha: int) -> None:
    """Put adapters beside the linear layers of any module whose names match a regular expression as a whole.

    Raises:
        LoraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise LoraError(
            "LoRA needs peft, which is not installed: pip install -e '.[lora]' in the repository."
        ) from error
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, module, ADAPTER)


def has_lora(model: nn.Module) -> bool:
    return any(is_adapter(name) for name, _ in model.named_parameters())


def merged_parameters(model: DeepseekOCR) -> dict[str, Tensor]:
    """Parameters under the names of a plain model; where there is an adapter, base + B·A·scale. Changes nothing."""
    parameters: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        parameters[name.replace(".base_layer.", ".")] = parameter
        layer = name.removesuffix(".base_layer.weight")
        if layer != name:
            parameters[f"{layer}.weight"] = _merged(model.get_submodule(layer), parameter)
    return parameters


@torch.no_grad()
def merge_lora(model: DeepseekOCR) -> DeepseekOCR:
    """Add the adapters to their layers, in place, and remove every trace of them.

    Every parameter that trains in a fresh model trains again; freeze anew what should not.

    Raises:
        LoraError: the model has no adapters.
    """
    if not has_lora(model):
        raise LoraError("the model has no adapters to merge; add_lora(model) adds some.")
    for name, layer in list(model.named_modules()):
        if not hasattr(layer, "lora_A"):
            continue
        base = layer.base_layer
        assert isinstance(base, nn.Linear)
        base.weight.copy_(_merged(layer, base.weight))
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, base)
    if hasattr(model, "peft_config"):
        del model.peft_config
    with shapes_only():
        fresh = dict(DeepseekOCR(model.config).named_parameters())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(fresh[name].requires_grad)
    return model


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def merged_weight(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """weight [out, in] + up [out, rank] @ down [rank, in] * scale, added in fp32 and rounded once, because a small
    update is soon lost in bf16."""
    return (weight.detach().float() + (up.detach().float() @ down.detach().float()) * scale).to(weight.dtype)


def _merged(layer: nn.Module, weight: Tensor) -> Tensor:
    down = layer.get_submodule("lora_A").get_submodule(ADAPTER).get_parameter("weight")
    up = layer.get_submodule("lora_B").get_submodule(ADAPTER).get_parameter("weight")
    scaling: Any = layer.scaling
    return merged_weight(weight, down, up, scaling[ADAPTER])
