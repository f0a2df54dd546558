"""What building micro-batches costs, what worker processes bring, and how long training waits for data.

    python -m benchmarks.loading_workers data=DIR tokenizer=DIR [mode=base] [rounds=3] [micro_batches=16] [compute=0.5]

`data` holds pages of 1,024 pixels: python -m data_engine kind=page samples=240 options.size=1024 out=DIR/page. The
loader packs them into sequences of 8,192 tokens. `compute` is the time in seconds that a simulated GPU needs for one
micro-batch; while it computes, the processor is free. See loading.md for results.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine.dataset import Dataset, open_datasets
from model.sequence import build_sequence
from model.tokenizer import Tokenizer
from model.views import MODES, make_views, open_image, view_plan
from train.data.filling import MicroBatchFilling, PackedSample
from train.data.loader import PackedLoader
from train.data.loader_settings import LoaderSettings
from train.data.micro_batch import MicroBatchShape
from train.data.mixture import Mixture
from train.data.reader import SampleReader

SHAPE = MicroBatchShape(tokens=8192, patches=110_000, views=96, vision_tokens=7000)
STEP = 4  # micro-batches


def processor_seconds() -> float:
    """Of this process and of its workers, which are children of a fork server and so not of its own usage."""
    ticks = 0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def parts(dataset: Dataset, tokenizer: Tokenizer, mode: str, count: int, rounds: int) -> dict[str, float]:
    """Processor milliseconds per page of every part of building, the least of several rounds."""
    resolution = MODES[mode]
    samples = [dataset.read(i) for i in range(count)]
    images = [open_image(sample.images[0]) for sample in samples]

    def fill() -> None:
        filling = MicroBatchFilling(tokenizer, SHAPE)
        for number, sample in enumerate(samples):
            try:
                filling.add(PackedSample(str(number), sample, resolution))
            except ValueError:  # full: an empty one takes its place
                filling = MicroBatchFilling(tokenizer, SHAPE)
                filling.add(PackedSample(str(number), sample, resolution))

    work = {
        "read and check": lambda: [dataset.read(i) for i in range(count)],
        "decode": lambda: [open_image(sample.images[0]) for sample in samples],
        "views": lambda: [make_views(image, resolution) for image in images],
        "sequence": lambda: [
            build_sequence(
                tokenizer,
                sample.prompt,
                [view_plan(*size, resolution).layout() for size in sample.image_sizes],
                sample.response,
            )
            for sample in samples
        ],
        "all but reading": fill,
    }
    least = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, run in work.items():
            started = time.process_time()
            run()
            least[name] = min(least[name], (time.process_time() - started) / count * 1000)
    return least


def rate(
    datasets: Mapping[str, SampleReader],
    tokenizer: Tokenizer,
    mode: str,
    workers: int,
    count: int,
    compute: float,
) -> dict[str, float]:
    """Micro-batches per second and processor time of each, then the wait beside a device that computes."""
    settings = LoaderSettings(
        modes={"default": MODES[mode]}, shape=SHAPE, micro_batches_per_step=STEP, workers=workers
    )
    loader = PackedLoader(datasets, tokenizer, settings, Mixture(window=1024), seed=1)

    def stream() -> Iterator[None]:
        step = 0
        while True:
            for _ in loader.step_batches(step):
                yield
            step += 1

    batches = stream()
    started = time.perf_counter()
    next(batches)
    first = time.perf_counter() - started
    for _ in range(3 * STEP):  # what was made ahead is used up
        next(batches)
    started, cpu = time.perf_counter(), processor_seconds()
    for _ in range(count):
        next(batches)
    seconds, cpu = time.perf_counter() - started, processor_seconds() - cpu
    waited, started = loader.data_wait_seconds, time.perf_counter()
    for _ in range(count):
        time.sleep(compute)
        next(batches)
    share = (loader.data_wait_seconds - waited) / (time.perf_counter() - started)
    loader.close()
    return {"first": first, "rate": count / seconds, "wait": share, "cpu": cpu / count * 1000}


def main(arguments: list[str]) -> None:
    options = {"mode": "base", "rounds": "3", "micro_batches": "16", "compute": "0.5"}
    options |= dict(argument.split("=", 1) for argument in arguments)
    datasets = open_datasets(options["data"])
    tokenizer = Tokenizer.from_directory(options["tokenizer"])
    mode, rounds = options["mode"], int(options["rounds"])
    dataset = next(iter(datasets.values()))
    sample = dataset.read(0)
    size, encoded = sample.image_sizes[0], sum(len(dataset.read(i).images[0]) for i in range(20)) / 20
    print(
        f"mode {mode}, images of {size[0]} x {size[1]} px, {encoded / 1024:.0f} KiB, {os.cpu_count()} processors"
    )
    for name, milliseconds in parts(dataset, tokenizer, mode, 20, rounds).items():
        print(f"{name:20s} {milliseconds:8.2f} ms per image")
    results: dict[int, list[dict[str, float]]] = {0: [], 1: [], 3: []}
    for _ in range(rounds):
        for workers, runs in results.items():
            runs.append(
                rate(
                    datasets,
                    tokenizer,
                    mode,
                    workers,
                    int(options["micro_batches"]),
                    float(options["compute"]),
                )
            )
    print(f"workers   micro-batches/s   CPU ms each   wait beside {options['compute']} s   first after")
    for workers, runs in results.items():
        middle = {key: median(run[key] for run in runs) for key in runs[0]}
        print(
            f"{workers:7d}   {middle['rate']:15.2f}   {middle['cpu']:11.0f}   {middle['wait']:17.1%}   "
            f"{middle['first']:9.1f} s"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
