"""Started by a test: one real engine at nano size; prints the bytes of its tensors by dtype, before the optimizer
steps (when most is held) and after it, beside what the planner says.

    python engine_memory.py fp32|bf16
"""

from __future__ import annotations

import gc
import json
import sys

import torch

from tests.train.pipeline_worker import configuration
from tests.train.synthetic import IMAGE, MIXED, VOCABULARY, Plan
from train.assemble import assemble, model_config
from train.config import World
from train.deepspeed_engine import BUCKET_ELEMENTS, TrainingEngine, start_processes, stop_processes
from train.planning.cutting import cut_model


def living_bytes() -> dict[str, int]:
    """Bytes of all distinct storages of tensors that are alive, by dtype."""
    gc.collect()
    storages: dict[int, tuple[str, int]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = (str(thing.dtype), storage.nbytes())
            if thing.is_leaf and thing.grad is not None:
                storage = thing.grad.untyped_storage()
                storages[storage.data_ptr()] = (str(thing.grad.dtype), storage.nbytes())
    found: dict[str, int] = {}
    for dtype, size in storages.values():
        found[dtype] = found.get(dtype, 0) + size
    return found


def main(precision: str) -> None:
    spec = {"stages": 1, "kinds": [[MIXED, MIXED]], "precision": precision}
    config = configuration(spec)
    world = World.from_environment(1)
    model = model_config(config.model, VOCABULARY, IMAGE)
    layers = assemble(config, model, 1)
    memory = cut_model(config, model, 1).table[0].memory
    start_processes(world, 60)
    outside = sum(living_bytes().values())
    engine = TrainingEngine(
        [layer.build for layer in layers],
        [0, len(layers)],
        world,
        config.micro_batches,
        precision,
        config.optimizer,
    )
    plan = Plan(((MIXED, MIXED),))
    before: dict[str, int] = {}
    engine.gradient_observers.append(lambda _: before.update(living_bytes()))
    engine.train_step(plan.batches(0, 0), 0, 1e-3)
    after = living_bytes()
    sys.stdout.write(json.dumps({
        "outside": outside, "before": before, "after": after, "bucket": BUCKET_ELEMENTS,
        "weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer,
    }) + "\n")  # fmt: skip
    engine.close()
    stop_processes()


if __name__ == "__main__":
    main(sys.argv[1])
