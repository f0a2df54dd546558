"""The pipeline computes what one process computes: loss, every gradient, clipping, the optimizer's step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.train.pipeline_worker import FROZEN, PART_RATES, configuration
from tests.train.processes import launch, succeeded
from tests.train.reference import reference_step
from tests.train.synthetic import EMPTY, IMAGE, MIXED, TEXT_ONLY, VOCABULARY, Plan
from train.assemble import model_config
from train.optimizer import group_of, optimizer_groups

WORKER = str(Path(__file__).with_name("pipeline_worker.py"))
ONE_REPLICA = ((MIXED, TEXT_ONLY, MIXED, EMPTY),)
# The second replica never sees an image: its vision weights have no gradient of their own.
TWO_REPLICAS = (ONE_REPLICA[0], (TEXT_ONLY, TEXT_ONLY, EMPTY, TEXT_ONLY))


class Run:
    """What the worker wrote."""

    def __init__(self, directory: Path, processes: int, **spec: object) -> None:
        spec["out"] = str(directory)
        self.spec = spec
        succeeded(launch(processes, [WORKER, json.dumps(spec)]))
        self.directory = directory
        self.report = json.loads((directory / "report.json").read_text())

    def tensors(self, what: str) -> dict[str, Tensor]:
        merged: dict[str, Tensor] = {}
        for path in sorted(self.directory.glob(f"{what}_*.safetensors")):
            part = load_file(path)
            assert not merged.keys() & part.keys(), "a parameter is held by two stages"
            merged |= part
        return merged


def relative_difference(ours: Tensor, reference: Tensor) -> float:
    """Largest difference against the largest entry; a gradient that is zero everywhere must be so in both."""
    scale = float(reference.abs().max())
    difference = float((ours - reference).abs().max())
    return difference / scale if scale else difference


def norms_by_part(gradients: dict[str, Tensor]) -> dict[str, float]:
    """Of the parts that train, those with rates of their own among them."""
    parts = (
        "model.vision_model",
        "model.projector",
        "model.embed_tokens",
        "model.layers.1",
        "model.layers",
        "lm_head",
    )
    squares = dict.fromkeys((*parts, "other"), 0.0)
    for name, gradient in gradients.items():
        part = next((part for part in parts if name.startswith(f"{part}.")), "other")
        squares[part] += float(gradient.double().square().sum())
    return {part: square**0.5 for part, square in squares.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "stages", "cut", "kinds"),
    [
        (1, 1, "balanced", ONE_REPLICA),
        pytest.param(2, 2, "balanced", ONE_REPLICA, marks=pytest.mark.thorough),
        (4, 4, "paper", ONE_REPLICA),
        (8, 4, "paper", TWO_REPLICAS),
    ],
    ids=["one process", "pipeline 2", "pipeline 4", "pipeline 4 x data 2"],
)
def test_gradients_clipping_and_step_equal_one_process(
    tmp_path: Path, processes: int, stages: int, cut: str, kinds: tuple[tuple[str, ...], ...]
) -> None:
    run = Run(tmp_path, processes, stages=stages, cut=cut, kinds=kinds)
    config = configuration(run.spec)
    sizes = model_config(config.model, VOCABULARY, IMAGE)
    model, reference = reference_step(sizes, run.tensors("before"), FROZEN, Plan(kinds))

    assert run.report["loss"] == pytest.approx(reference.loss, rel=1e-6)
    assert run.report["evaluated"] == pytest.approx(reference.loss, rel=1e-6)
    assert run.report["experts"]["balance_loss"] == pytest.approx(reference.balance_loss, rel=1e-5)

    if cut == "paper":
        # The frozen first stage gets nothing back; stage 1 sends its vision tokens and the metadata on.
        replicas, micro_batches = len(kinds), len(kinds[0])
        for rank in range(replicas, 2 * replicas):
            assert run.report["sent"][rank] == [0, 0, 2 * micro_batches, 0]
        for rank in range(2 * replicas, 3 * replicas):
            assert run.report["sent"][rank] == [0, micro_batches, 0, 2 * micro_batches]

    gradients = run.tensors("gradients")
    assert gradients.keys() == reference.gradients.keys()
    differences = {name: relative_difference(gradients[name], g) for name, g in reference.gradients.items()}
    worst = max(differences, key=lambda name: differences[name])
    assert differences[worst] <= 1e-6, f"{worst}: {differences[worst]:.2e}"

    norm = torch.stack([gradient.norm() for gradient in reference.gradients.values()]).norm()
    assert run.report["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)
    by_stage = torch.tensor(run.report["stage_gradient_norms"]).norm()
    assert float(by_stage) == pytest.approx(float(norm), rel=1e-5)
    assert run.report["part_gradient_norms"] == pytest.approx(norms_by_part(reference.gradients), rel=1e-5)

    settings = config.optimizer
    assert float(norm) > 2 * settings.clip, "the step would not be clipped, and the test would show nothing"
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    torch.nn.utils.clip_grad_norm_(named.values(), settings.clip)
    groups = [
        {
            "params": [p for name, p in named.items() if group_of(name, p, PART_RATES) == group],
            "weight_decay": settings.weight_decay if group.decayed else 0.0,
            "lr": PART_RATES.get(group.part, 1e-3),
        }
        for group in optimizer_groups(settings)
    ]
    assert all(group["params"] for group in groups), (
        "every part with a rate of its own has both kinds of parameters"
    )
    torch.optim.AdamW(groups, betas=tuple(settings.betas), eps=settings.epsilon).step()
    for name, after in run.tensors("after").items():
        expected = model.get_parameter(name)
        assert torch.allclose(after, expected, rtol=0, atol=1e-6), name


@pytest.mark.slow
def test_bf16_pipeline_is_near_fp32_and_clips_over_all_stages(tmp_path: Path) -> None:
    run = Run(tmp_path, 4, stages=4, cut="paper", kinds=ONE_REPLICA, precision="bf16")
    config = configuration(run.spec)
    sizes = model_config(config.model, VOCABULARY, IMAGE)
    _, reference = reference_step(sizes, run.tensors("before"), FROZEN, Plan(ONE_REPLICA))
    norm = torch.stack([gradient.norm() for gradient in reference.gradients.values()]).norm()
    assert run.report["loss"] == pytest.approx(reference.loss, rel=2e-3)
    assert run.report["gradient_norm"] == pytest.approx(float(norm), rel=3e-2)
    assert run.report["part_gradient_norms"] == pytest.approx(norms_by_part(reference.gradients), rel=0.1)


@pytest.mark.slow
def test_stage_1_model_trains_in_a_pipeline_when_a_micro_batch_has_no_image(tmp_path: Path) -> None:
    """Nothing is frozen here: the vision tokenizer's own output crosses a boundary and may have no gradient."""
    runs = {}
    for stages in (1, 3):
        directory = tmp_path / str(stages)
        directory.mkdir()
        runs[stages] = Run(
            directory,
            stages,
            stages=stages,
            kinds=ONE_REPLICA,
            freeze=False,
            architecture="encoder_lm",
            steps=2,
        )
    alone, pipeline = runs[1], runs[3]
    assert pipeline.report["losses"] == pytest.approx(alone.report["losses"], rel=1e-6)
    norms = pipeline.report["part_gradient_norms"]
    assert norms == pytest.approx(alone.report["part_gradient_norms"], rel=1e-5)
    assert {
        "model.sam_model",
        "model.sam_model.net_2",
        "model.vision_model",
        "language_model",
    } <= norms.keys()
    one, three = alone.tensors("gradients"), pipeline.tensors("gradients")
    assert one.keys() == three.keys()
    assert max(relative_difference(three[name], one[name]) for name in one) <= 1e-6
