"""For how long training stands still to save: in the foreground, and beside training (`checkpoint.asynchronous`).

    python benchmarks/checkpoint_saving.py                       # one process, 3 GiB of memory, 3 minutes

Keys: rounds=3, tokens=256, vocabulary=4096, trained=2 (decoder layers of the `small` preset that train), directory=DIR
(where checkpoints are written; a temporary directory of the system).

A round times two steps; saves in the foreground; saves beside training, while steps go on until the last byte is
flushed to the disk and checked; and times two steps again. Where writing and training share the cores, what a save
takes from the steps shows in their times.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage2 import micro_batch

from train.assemble import model_config
from train.config import ModelChoice, SequenceShape, TrainConfig, World
from train.data.micro_batch import MicroBatch
from train.planning.cutting import cut_model
from train.run_directory import RunDirectory

DEFAULTS = {"rounds": "3", "tokens": "256", "vocabulary": "4096", "trained": "2", "directory": ""}
COLUMNS = (
    "step",
    "foreground: stands still",
    "beside: stands still",
    "beside: until whole",
    "steps",
    "step beside",
)


def main(arguments: Sequence[str]) -> None:
    settings = DEFAULTS | dict(argument.split("=", 1) for argument in arguments)
    with tempfile.TemporaryDirectory(dir=settings["directory"] or None) as directory:
        measure(settings, Path(directory))


def measure(settings: dict[str, str], directory: Path) -> None:
    from train.checkpoint_writing import CheckpointWriting, tensor_sizes
    from train.deepspeed_engine import TrainingEngine, start_processes, stop_processes
    from train.host_room import HostRoom

    vocabulary, trained = int(settings["vocabulary"]), int(settings["trained"])
    frozen = [f"model.layers.{number}" for number in range(8 - trained)]
    config = TrainConfig(
        model=ModelChoice(preset="small"),
        freeze=["model.sam_model", "model.vision_model", *frozen],
        micro_batches=1,
        sequence=SequenceShape(int(settings["tokens"]), 1600, 1, 100),
        modes={"default": "small"},
    )
    world = World.from_environment(1)
    cut = cut_model(config, model_config(config.model, vocabulary, 3), 1)
    start_processes(world, 600)
    engine = TrainingEngine(
        [layer.build for layer in cut.layers], cut.bounds, world, 1, config.precision, config.optimizer
    )
    batches = [MicroBatch(*micro_batch(config, 0, vocabulary))]
    run = RunDirectory(directory)
    run.checkpoints.mkdir()
    room = HostRoom(HostRoom.bytes_for(tensor_sizes(engine)), engine.device)
    step = 0

    def train() -> float:
        nonlocal step
        step += 1
        return engine.train_step(batches, step - 1, 1e-6).seconds

    def foreground() -> float:
        started = time.perf_counter()
        writing = CheckpointWriting(engine, run, step, {})
        writing.begin()
        writing.write()
        written = writing.finish()
        ended = time.perf_counter()
        shutil.rmtree(written)
        return ended - started

    def beside() -> tuple[float, float, list[float]]:
        started = time.perf_counter()
        writing = CheckpointWriting(engine, run, step, {})
        room.clear()
        writing.begin(lambda: room)
        writer = threading.Thread(target=writing.write)
        writer.start()
        still = time.perf_counter() - started
        steps = []
        while writer.is_alive():
            steps.append(train())
        published = time.perf_counter()
        written = writing.finish()
        ended = time.perf_counter()
        shutil.rmtree(written)
        return still + ended - published, ended - started, steps

    train()
    beside()  # the first one finds its memory
    print(f"{sum(tensor_sizes(engine)) / 2**30:.2f} GiB of state, {settings}")
    print("  ".join(COLUMNS))
    rows = []
    for _ in range(int(settings["rounds"])):
        before = [train(), train()]
        whole = foreground()
        still, until, steps = beside()
        alone = statistics.mean([*before, train(), train()])
        rows.append((alone, whole, still, until, len(steps), statistics.mean(steps)))
        print_row(rows[-1])
    print("median")
    print_row([statistics.median(column) for column in zip(*rows, strict=True)])
    engine.close()
    stop_processes()


def print_row(numbers: Sequence[float]) -> None:
    print(
        "  ".join(f"{number:>{len(name)}.2f}" for name, number in zip(COLUMNS, numbers, strict=True)),
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
