"""Stage 2: how much faster the pipeline is with another cut, modelled for the full-size model and measured in small.

    OMP_NUM_THREADS=1 python benchmarks/stage2.py                    # both parts, 2 minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/stage2.py rounds=0           # the modelled part alone, seconds
    OMP_NUM_THREADS=1 python benchmarks/stage2.py times=times.json   # leaves the times for parallel.times=times.json

Keys: rounds=3, images=0,1,2 (per sequence), tokens=1024, vocabulary=32768, times=FILE.

Measured: every layer of the `small` preset alone, forward and backward pass, fp32, one thread, in one process. Rounds
go through all layers one after the other; the minimum of a layer's CPU times counts.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine.command_line import compose
from data_engine.files import atomic_write_json
from model.config import DeepseekOCRConfig
from train.assemble import model_config
from train.config import ModelChoice, Parallelism, SequenceShape, TrainConfig
from train.cut import TIMES_SCHEMA, LayerInfo, with_measured_times
from train.data.micro_batch import (
    HEADER,
    HEADER_LABELLED,
    LABEL,
    METADATA_ROWS,
    NO_VISION,
    PATCH_BYTES,
    POSITION,
    SEGMENT,
    TOKEN_IDS,
    VISION_INDEX,
)
from train.planning.cluster import stage_times
from train.planning.cutting import CutModel, bounds_for, cut_model
from train.planning.load import load_of, usual_page
from train.planning.timeline import simulate
from train.stage_table import layer_ranges

IMAGES = (0, 2, 4, 6, 6.4, 8, 10, 12, 16, 20, 24)
CUTS = ("paper", "balanced", "auto")
MICRO_BATCHES = 16


def step_times(
    config: TrainConfig, cut: CutModel, infos: Sequence[LayerInfo]
) -> dict[str, tuple[list[int], float]]:
    """Cut -> its boundaries and the length of its 1F1B timeline, for layers with these costs."""
    found = {}
    for name in CUTS:
        parallel = replace(config.parallel, cut=name)
        bounds = bounds_for(config, parallel, cut.costs, infos, cut.memory)
        found[name] = bounds, simulate(stage_times(infos, bounds, 1e12), config.micro_batches).length
    return found


def modelled() -> None:
    """The full-size model: FLOPs, 16 micro-batches, 0 to 24 images of 1024 px in 8,192 tokens."""
    config = compose(TrainConfig, ["experiment=paper_stage2", "modes.default=base"], "train")
    cut = cut_model(config, DeepseekOCRConfig(), 40)
    print("3B, modelled: step time of the paper's cut ÷ that of another")
    print("images  ÷ balanced  ÷ auto   a label everywhere: ÷ balanced  ÷ auto   auto cuts before layer")
    for images in IMAGES:
        load = load_of(config, images)
        row = []
        for labelled in (load.labelled, load.tokens):
            infos = cut.costs.costed(cut.infos, replace(load, labelled=labelled))
            times = step_times(config, cut, infos)
            row.append([times["paper"][1] / times[name][1] for name in CUTS[1:]] + [times["auto"][0][1:-1]])
        (balanced, auto, bounds), (balanced_all, auto_all, _) = row
        print(
            f"{images:>6g}  {balanced:>10.3f}  {auto:>6.3f}  {balanced_all:>30.3f}  {auto_all:>6.3f}   {bounds}"
        )


def micro_batch(config: TrainConfig, images: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """A full sequence of equal samples, the first ones with an image each; every text token has a label."""
    shape, page = config.sequence, usual_page(config)
    (side,) = page.views
    grid, square = side // 16, side // 64
    generator = torch.Generator().manual_seed(1)
    pixels = torch.zeros(shape.patches, PATCH_BYTES, dtype=torch.uint8)
    tiles = torch.zeros(shape.views, 4, dtype=torch.int32)
    metadata = torch.zeros(METADATA_ROWS, shape.tokens, dtype=torch.int32)
    metadata[TOKEN_IDS] = torch.randint(
        4, vocabulary, (shape.tokens,), generator=generator, dtype=torch.int32
    )
    metadata[VISION_INDEX] = NO_VISION
    metadata[LABEL] = metadata[TOKEN_IDS].roll(-1)
    start = 0
    for number, length in enumerate(load_of(config, images).segments):
        metadata[SEGMENT, start : start + length] = number + 1
        metadata[POSITION, start : start + length] = torch.arange(length)
        if number < images:
            first, count = number * grid * grid, grid * grid
            pixels[first : first + count] = torch.randint(
                0, 256, (count, PATCH_BYTES), generator=generator, dtype=torch.uint8
            )
            tiles[number] = torch.tensor([first, grid, grid, number * square * square])
            tokens = torch.arange(square * square).view(square, square) + number * square * square
            rows = torch.nn.functional.pad(tokens, (0, 1), value=shape.vision_tokens).flatten()
            place = slice(start, start + len(rows) + 1)
            metadata[VISION_INDEX, place] = torch.cat([rows, torch.tensor([shape.vision_tokens + 1])]).int()
            metadata[LABEL, place] = -100
        start += length
    metadata[HEADER, HEADER_LABELLED] = int((metadata[LABEL] >= 0).sum())
    return pixels, tiles, metadata


def measured_layers(cut: CutModel, batch: tuple[Tensor, ...], rounds: int) -> dict[str, tuple[float, float]]:
    """Layer -> milliseconds of CPU time of its forward and backward pass, the least of several rounds."""
    built = [(layer.info.name, layer.build().train()) for layer in cut.layers]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in built}
    for _ in range(rounds + 1):  # the first round warms up
        value: tuple[Tensor, ...] = batch
        for name, layer in built:
            inputs = tuple(
                part.detach().requires_grad_(part.is_floating_point()) if part.is_floating_point() else part
                for part in value
            )
            gc.collect()
            started = time.process_time()
            output = layer(inputs)
            forward = time.process_time() - started
            outputs = output if isinstance(output, tuple) else (output,)
            floats = [part for part in outputs if part.requires_grad]
            upstream = [torch.ones_like(part) for part in floats]
            started = time.process_time()
            if floats:
                torch.autograd.backward(floats, upstream)
            times[name].append((forward * 1e3, (time.process_time() - started) * 1e3))
            layer.zero_grad(set_to_none=True)
            value = outputs
    return {
        name: tuple(min(column) for column in zip(*found[1:], strict=True)) for name, found in times.items()
    }


def measured(settings: dict[str, str]) -> None:
    """The small preset on this machine, beside what the cost model says of the same sizes."""
    tokens, vocabulary = int(settings["tokens"]), int(settings["vocabulary"])
    rounds, loads = int(settings["rounds"]), [int(number) for number in settings["images"].split(",")]
    config = TrainConfig(
        model=ModelChoice(preset="small"),
        freeze=["model.sam_model"],
        micro_batches=MICRO_BATCHES,
        sequence=SequenceShape(tokens, 1600 * max(1, *loads), max(1, *loads), 100 * max(1, *loads)),
        modes={"default": "small"},
        parallel=Parallelism(4, "balanced"),
    )
    cut = cut_model(config, model_config(config.model, vocabulary, 3), 1)
    for images in loads:  # the file of times keeps the last load
        infos = cut.costs.costed(cut.infos, load_of(config, images))
        batch = micro_batch(config, images, vocabulary)
        found = measured_layers(cut, batch, rounds)
        path = Path(settings["times"])
        layers = {
            name: {"forward": forward, "backward": backward} for name, (forward, backward) in found.items()
        }
        atomic_write_json(path, {"schema": TIMES_SCHEMA, "unit": "ms", "images": images, "layers": layers})
        timed = with_measured_times(infos, str(path))
        print(
            f"\nsmall, {tokens} tokens, vocabulary {vocabulary}, {images} images of 640 px; ms of CPU time, "
            f"least of {rounds}"
        )
        print("layer              GFLOP f+b  forward  backward  GFLOP/s")
        for info in timed:
            assert info.milliseconds is not None
            rate = info.flops / 1e6 / info.cost if info.cost else 0.0
            print(
                f"{info.name:<18} {info.flops / 1e9:>9.2f}  {info.milliseconds[0]:>7.1f}  "
                f"{info.milliseconds[1]:>8.1f}  {rate:>7.1f}"
            )
        modelled_times, measured_times = step_times(config, cut, infos), step_times(config, cut, timed)
        print("cut        modelled: paper ÷ it  measured: paper ÷ it  stages by measured times")
        for name in CUTS:
            bounds, length = measured_times[name]
            names = [info.name for info in infos]
            stages = " | ".join(layer_ranges(names[a:b]) for a, b in pairwise(bounds))
            print(
                f"{name:<10} {modelled_times['paper'][1] / modelled_times[name][1]:>20.3f}  "
                f"{measured_times['paper'][1] / length:>20.3f}  {stages}"
            )


def main(arguments: Sequence[str]) -> None:
    settings = {"rounds": "3", "images": "0,1,2", "tokens": "1024", "vocabulary": "32768"}
    settings["times"] = str(Path(tempfile.gettempdir()) / "stage2_times.json")
    settings |= dict(argument.split("=", 1) for argument in arguments)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    modelled()
    if int(settings["rounds"]):
        measured(settings)


if __name__ == "__main__":
    main(sys.argv[1:])
