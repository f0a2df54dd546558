"""Parts of a model that do not train, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn


def is_below(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a checkpoint name is one of the prefixes or lies below it."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def freeze(model: nn.Module, prefixes: Sequence[str]) -> dict[str, int]:
    """Freeze every parameter whose name is a prefix or lies below one, such as `model.sam_model`.

    Returns:
        Parameters (elements, not tensors) frozen under each prefix. What was frozen before stays frozen.

    Raises:
        ValueError: a prefix names nothing, or nothing would be left to train. The model is unchanged then.
    """
    parameters = dict(model.named_parameters())
    chosen = {prefix: [name for name in parameters if is_below(name, [prefix])] for prefix in prefixes}
    unknown = [prefix for prefix, names in chosen.items() if not names]
    if unknown:
        possible = sorted({".".join(name.split(".")[:2]) for name in parameters})
        raise ValueError(
            f"no parameter is called '{unknown[0]}' or lies below it; possible: {', '.join(possible)} and "
            "anything further down."
        )
    frozen = {name for names in chosen.values() for name in names}
    if not any(parameter.requires_grad for name, parameter in parameters.items() if name not in frozen):
        raise ValueError(f"freezing {', '.join(prefixes)} leaves nothing to train; freeze less.")
    for name in frozen:
        parameters[name].requires_grad_(False)
    return {prefix: sum(parameters[name].numel() for name in names) for prefix, names in chosen.items()}
