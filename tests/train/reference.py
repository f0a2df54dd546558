"""One step of the whole model in one process, written with `model/` alone: no DeepSpeed, no pipeline layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.attention import packed_layout
from model.config import DeepseekOCRConfig
from model.deepseek_ocr import DeepseekOCR
from model.loss import next_token_loss
from model.moe import MixtureOfExperts
from tests.train.synthetic import SHAPE, Plan
from train.data.micro_batch import LABEL, POSITION, SEGMENT, TOKEN_IDS, VISION_INDEX, MicroBatch


@dataclass
class ReferenceStep:
    loss: float = 0.0
    gradients: dict[str, Tensor] = field(default_factory=dict)
    balance_loss: float = 0.0
    """Mean over micro-batches, summed over layers."""


def views_of(batch: MicroBatch) -> list[Tensor]:
    """Normalised floats [3, S, S] of every view, in the order of their vision tokens."""
    views = []
    for patch, side, _, _ in batch.tiles.tolist():
        if side:
            pixels = batch.pixels[patch : patch + side * side].reshape(3, 16 * side, 16 * side)
            views.append((pixels.float() / 255 - 0.5) / 0.5)
    return views


def summed_loss(model: DeepseekOCR, batch: MicroBatch) -> Tensor:
    """Sum over the labelled tokens of one micro-batch."""
    vision = model.model.vision_tokens(views_of(batch))
    filled = len(vision) - 2
    index = batch.metadata[VISION_INDEX].long()
    # In the pipeline's buffer, newline and separator follow V rows; here they follow what is filled.
    index = torch.where(index >= SHAPE.vision_tokens, index - SHAPE.vision_tokens + filled, index)
    text = model.model.embed_tokens(batch.metadata[TOKEN_IDS])
    hidden = torch.where((index >= 0)[:, None], vision[index.clamp(min=0)], text)[None]
    layout = packed_layout(
        batch.metadata[SEGMENT][None], batch.metadata[POSITION][None], model.config.language
    )
    return next_token_loss(model.decode(hidden, layout)[0], model.lm_head.weight, batch.metadata[LABEL])


def reference_step(
    config: DeepseekOCRConfig, weights: dict[str, Tensor], frozen: str, plan: Plan, step: int = 0
) -> tuple[DeepseekOCR, ReferenceStep]:
    """Loss and gradients of a step: the mean over all labelled tokens, plus the experts' balance loss.

    On one thread, as the pipeline's processes: two threads add up in another order, and the differences that
    attention's gradients consist of magnify that to 3e-6. On one thread the results are equal bit for bit.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _reference_step(config, weights, frozen, plan, step)
    finally:
        torch.set_num_threads(threads)


def _reference_step(
    config: DeepseekOCRConfig, weights: dict[str, Tensor], frozen: str, plan: Plan, step: int
) -> tuple[DeepseekOCR, ReferenceStep]:
    model = DeepseekOCR(config)
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not missing and not unknown, (missing, unknown)
    for name, parameter in model.named_parameters():
        if name.startswith(frozen):
            parameter.requires_grad_(False)
    count = plan.micro_batches * plan.replicas
    experts = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    for module in experts:
        module.balance_scale = 1.0 / count
    batches = [batch for replica in range(plan.replicas) for batch in plan.batches(replica, step)]
    labelled = sum(int((batch.metadata[LABEL] >= 0).sum()) for batch in batches)
    result = ReferenceStep()
    model.train()
    for batch in batches:
        # The engine's order: a share of the step's mean, then the mean over micro-batches and replicas.
        loss = summed_loss(model, batch) * (count / torch.tensor(float(labelled))) / count
        loss.backward()
        result.loss += loss.item()
        result.balance_loss += sum(float(module.last_balance_loss) for module in experts) / count
    result.gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    return model, result
