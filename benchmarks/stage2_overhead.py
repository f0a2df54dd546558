"""What the pipeline costs besides its stages: a measured step ÷ the 1F1B timeline of stage times measured alone.

    python benchmarks/stage2_overhead.py                 # 2 stages on 2 pinned cores, 3 minutes

Keys: rounds=3, tokens=768, vocabulary=4096, micro_batches=16, images=0 (of 640 px per sequence), cut=[7].

The `small` preset, fp32, one thread per process, each process on a core of its own. A round times each stage alone (the
other process waits), then takes one step of the engine, optimizer included; round after round, so that a machine that
becomes slower or faster does so for both. The ratio of a round compares its own numbers; their median counts. Beside
the whole step stands the part of it that the timeline describes: passes, messages and waiting, without the optimizer.
Messages are counted at DeepSpeed's own function for sending.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage2 import micro_batch

from train.assemble import model_config
from train.clock import COMPUTE, LOAD, WAIT
from train.config import ModelChoice, Parallelism, SequenceShape, TrainConfig, World
from train.data.micro_batch import MicroBatch
from train.pipeline_layers import StageLayer
from train.planning.cutting import CutModel, cut_model
from train.planning.timeline import StageTime, simulate
from train.stage_table import layer_ranges

DEFAULTS = {"rounds": 3, "tokens": 768, "vocabulary": 4096, "micro_batches": 16, "images": 0}


def read(arguments: Sequence[str]) -> tuple[dict[str, int], Any]:
    """Numbers, and the cut."""
    given = dict(argument.split("=", 1) for argument in arguments)
    cut = given.pop("cut", "[7]")
    chosen: Any = [int(word) for word in cut.strip("[]").split(",")] if cut.startswith("[") else cut
    return DEFAULTS | {key: int(value) for key, value in given.items()}, chosen


def configuration(settings: dict[str, int], cut: Any) -> TrainConfig:
    images = max(1, settings["images"])
    return TrainConfig(
        model=ModelChoice(preset="small"),
        freeze=["model.sam_model"],
        micro_batches=settings["micro_batches"],
        sequence=SequenceShape(settings["tokens"], 1600 * images, images, 100 * images),
        modes={"default": "small"},
        parallel=Parallelism(2, cut),
    )


class Alone:
    """One stage without engine and neighbours."""

    def __init__(self, layers: list[StageLayer], inputs: tuple[torch.Tensor, ...]) -> None:
        self._layers = layers
        self._inputs = inputs

    def forward(self) -> tuple[torch.Tensor, ...]:
        value: Any = tuple(
            part.detach().requires_grad_() if part.is_floating_point() else part for part in self._inputs
        )
        for layer in self._layers:
            value = layer(value)
        return value if isinstance(value, tuple) else (value,)

    def time(self) -> tuple[float, float]:
        """Seconds of one forward and one backward pass."""
        started = time.perf_counter()
        floats = [part for part in self.forward() if part.requires_grad]
        forward = time.perf_counter() - started
        upstream = [torch.ones_like(part) for part in floats]
        started = time.perf_counter()
        if floats:
            torch.autograd.backward(floats, upstream)
        backward = time.perf_counter() - started
        for layer in self._layers:
            layer.zero_grad(set_to_none=False)
        return forward, backward


def in_turn(rank: int, work: Callable[[], tuple[float, float]]) -> list[tuple[float, float]]:
    """What `work` returns on rank 0, then on rank 1, on both."""
    results = []
    for turn in range(2):
        dist.barrier()
        numbers = torch.tensor(work() if rank == turn else (0.0, 0.0), dtype=torch.float64)
        dist.broadcast(numbers, src=turn)
        results.append((float(numbers[0]), float(numbers[1])))
    return results


def worker(settings: dict[str, int], cut_name: Any, directory: Path) -> None:
    from deepspeed.runtime.pipe import p2p

    from train.deepspeed_engine import TrainingEngine, start_processes, stop_processes

    world = World.from_environment(2)
    rank = world.rank
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    config = configuration(settings, cut_name)
    cut: CutModel = cut_model(config, model_config(config.model, settings["vocabulary"], 3), 1)
    start_processes(world, 600)
    sent = [0, 0]
    plain_send = p2p.send

    def counted(tensor: torch.Tensor, stage: int, *more: Any) -> Any:
        sent[stage] += 1
        return plain_send(tensor, stage, *more)

    p2p.send = counted
    batch = micro_batch(config, settings["images"], settings["vocabulary"])
    mine = [layer.build().train() for layer in cut.layers[cut.bounds[rank] : cut.bounds[rank + 1]]]
    handed = directory / "between.pt"
    if rank == 0:
        torch.save([part.detach() for part in Alone(mine, batch).forward()], handed)
    dist.barrier()
    alone = Alone(mine, batch if rank == 0 else tuple(torch.load(handed, weights_only=True)))
    engine = TrainingEngine(
        [layer.build for layer in cut.layers],
        cut.bounds,
        world,
        config.micro_batches,
        config.precision,
        config.optimizer,
    )
    batches = [MicroBatch(*batch)] * config.micro_batches if rank == 0 else None
    engine.train_step(batches, 0, 1e-6)
    alone.time()
    sent[:] = [0, 0]
    rows = []
    for number in range(settings["rounds"]):
        passes = [in_turn(rank, alone.time) for _ in range(3)]
        stages = [
            StageTime(*(statistics.median(turn[stage][kind] for turn in passes) for kind in range(2)))
            for stage in range(2)
        ]
        dist.barrier()
        engine.clock.take()
        seconds = engine.train_step(batches, number + 1, 1e-6).seconds
        parts = engine.clock.take()
        passes = parts[COMPUTE] + parts[WAIT] + parts[LOAD]
        rows.append((stages, seconds, passes, simulate(stages, config.micro_batches).length))
    if rank == 0:
        report(settings, cut, rows)
    dist.barrier()
    sys.stdout.write(
        f"stage {rank} sent {sent[1 - rank] / settings['rounds'] / config.micro_batches:g} tensors per micro-batch\n"
    )
    engine.close()
    stop_processes()


def report(
    settings: dict[str, int], cut: CutModel, rows: list[tuple[list[StageTime], float, float, float]]
) -> None:
    names = [info.name for info in cut.infos]
    print(" | ".join(layer_ranges(names[a:b]) for a, b in pairwise(cut.bounds)), settings)
    print(
        "stage 0: forward + backward s  stage 1: forward + backward s  1F1B s  step s  passes s  ÷ step  ÷ passes"
    )
    for stages, seconds, passes, length in rows:
        times = "  ".join(f"{stage.forward:>17.4f} + {stage.backward:<9.4f}" for stage in stages)
        print(
            f"{times}  {length:>6.3f}  {seconds:>6.3f}  {passes:>8.3f}  {seconds / length:>6.3f}  "
            f"{passes / length:>8.3f}"
        )
    whole = statistics.median(seconds / length for _, seconds, _, length in rows)
    inside = statistics.median(passes / length for _, _, passes, length in rows)
    print(f"median of the rounds: step {whole:.3f}, passes alone {inside:.3f}")


def main(arguments: Sequence[str]) -> None:
    settings, cut = read(arguments)
    if "RANK" in os.environ:
        worker(settings, cut, Path(os.environ["OVERHEAD_DIRECTORY"]))
        return
    print(f"load of the machine before: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(Path(__file__).resolve()), *arguments,
        ]  # fmt: skip
        more = {"OVERHEAD_DIRECTORY": directory, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=os.environ | more, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
