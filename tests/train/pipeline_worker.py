"""Started by tests in every process of a pipeline: evaluates and trains on synthetic micro-batches, and writes
weights before, gradients, and weights after, by checkpoint name.

    python pipeline_worker.py '{"stages": 4, "kinds": [["mixed", ...]], "out": DIR, ...}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.train.synthetic import IMAGE, SHAPE, VOCABULARY, Plan
from train.assemble import assemble, model_config
from train.collective import gather
from train.config import ModelChoice, OptimizerSettings, Parallelism, TrainConfig, World
from train.cut import boundaries
from train.deepspeed_engine import TrainingEngine, start_processes, stop_processes
from train.metrics import expert_statistics

FROZEN = "model.sam_model"
PART_RATES = {"model.vision_model": 3e-4, "model.layers.1": 2e-3}
"""Highest learning rates of two parts; all others learn at the default of 1e-3."""


def configuration(spec: dict) -> TrainConfig:
    return TrainConfig(
        model=ModelChoice(architecture=spec.get("architecture", "deepseek_ocr"), balance_loss=0.1),
        freeze=[FROZEN] if spec.get("freeze", True) else [],
        micro_batches=len(spec["kinds"][0]),
        sequence=SHAPE,
        precision=spec.get("precision", "fp32"),
        parallel=Parallelism(spec["stages"], spec.get("cut", "balanced")),
        optimizer=OptimizerSettings(
            clip=spec.get("clip", 0.1),
            epsilon=1e-4,
            part_learning_rates=PART_RATES if spec.get("freeze", True) else {},
        ),
    )


@contextmanager
def counted_messages(stages: int) -> Iterator[list[int]]:
    """How many tensors this process hands to DeepSpeed's function for sending, by receiving stage."""
    # Imported after the engine, which sets DeepSpeed's environment.
    from deepspeed.runtime.pipe import p2p

    sent, send = [0] * stages, p2p.send

    def counted(tensor: torch.Tensor, stage: int, *more: object) -> object:
        sent[stage] += 1
        return send(tensor, stage, *more)

    p2p.send = counted
    try:
        yield sent
    finally:
        p2p.send = send


def main(spec: dict) -> None:
    config = configuration(spec)
    plan = Plan(tuple(tuple(kinds) for kinds in spec["kinds"]))
    out = Path(spec["out"])
    world = World.from_environment(spec["stages"])
    assert world.data_parallel_size == plan.replicas
    model = model_config(config.model, VOCABULARY, IMAGE)
    layers = assemble(config, model, world.data_parallel_size)
    bounds = boundaries([layer.info for layer in layers], config.parallel)
    start_processes(world, 240)
    engine = TrainingEngine(
        [layer.build for layer in layers],
        bounds,
        world,
        config.micro_batches,
        config.precision,
        config.optimizer,
    )

    def write(what: str, trainable_only: bool = False) -> None:
        read = engine.gradient if what == "gradients" else engine.master
        tensors = {
            name: read(parameter).clone().cpu()
            for name, parameter in engine.named_parameters()
            if parameter.requires_grad or not trainable_only
        }
        if engine.replica == 0:
            save_file(tensors, out / f"{what}_{engine.stage}.safetensors")

    def batches(step: int):
        return plan.batches(engine.replica, step) if engine.is_first_stage else None

    write("before")
    evaluated = engine.evaluate_step(batches(0))
    engine.gradient_observers.append(lambda _: write("gradients", trainable_only=True))
    with counted_messages(world.pipeline_stages) as sent:
        result = engine.train_step(batches(0), 0, 1e-3)
    sent_by_rank = gather(engine, torch.tensor(sent)).tolist()
    engine.gradient_observers.clear()
    write("after")
    experts = expert_statistics(
        engine, model.language.num_hidden_layers, model.language.n_routed_experts,
        config.micro_batches * world.data_parallel_size,
    )  # fmt: skip
    losses = [result.loss]
    for step in range(1, spec.get("steps", 1)):
        engine.evaluate_step(batches(0))
        losses.append(engine.train_step(batches(step), step, 1e-3).loss)
    if world.rank == 0:
        report = {
            "evaluated": evaluated, "loss": result.loss, "gradient_norm": result.gradient_norm, "losses": losses,
            "stage_gradient_norms": result.stage_gradient_norms, "part_gradient_norms": result.part_gradient_norms,
            "experts": experts, "bounds": bounds,
            "sent": sent_by_rank,
        }  # fmt: skip
        (out / "report.json").write_text(json.dumps(report))
    engine.close()
    stop_processes()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
