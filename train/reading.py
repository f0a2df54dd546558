"""A small reading test with the weights as they are: a few held-out samples, read greedily, characters compared.

Where the model is, and what the test costs:
- Without a pipeline every process holds the whole model and reads with the very tensors that train, without a copy. The
  samples are shared among the replicas.
- With a pipeline the stages send their weights to rank 0, which reads on its CPU while all others wait: the whole model
  once in host memory (6.7 GB for the 3B in bf16), its transfer, and some seconds per answer of the 3B. It must be done
  within `timeout`, so `evaluate.read` and `evaluate.tokens` are small; 0, the default, does without.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from data_engine.dataset import DamagedSampleError, Dataset
from data_engine.sample import Sample
from model.deepseek_ocr import DeepseekOCR
from model.generate import generate
from model.meta import shapes_only
from model.views import ResolutionMode, open_image
from train.data.modes import DEFAULT_MODE, ModeChoices, ModeShares
from train.deepspeed_engine import TrainingEngine
from train.lora import merge_adapters
from train.prepare import Prepared


def reading_test(
    prepared: Prepared, engine: TrainingEngine, datasets: Mapping[str, Dataset], count: int
) -> dict[str, float]:
    """Dataset -> share of right characters, 1 - distance / length of the longer text, pooled over its samples
    (collective; complete on rank 0). Datasets of which nothing could be read are left out.

    Args:
        datasets: on first stages, empty elsewhere.
        count: how many datasets there are.
    """
    config, world = prepared.config, engine.world
    weights = whole_model(prepared, engine)
    sums = torch.zeros(count, 2, dtype=torch.float64)
    if weights is not None:
        model = _assembled(prepared, weights)
        readers = world.size if world.pipeline_stages == 1 else 1
        for number, dataset in enumerate(datasets.values()):
            mine = range(world.rank, min(config.evaluate.read, len(dataset)), readers)
            for sample in _samples(dataset, mine):
                sums[number] += _read(prepared, model, sample)
    sums = sums.to(engine.device)
    dist.all_reduce(sums)
    rows = zip(datasets, sums.tolist(), strict=False)  # no names where there are no datasets
    return {name: 1 - wrong / length for name, (wrong, length) in rows if length}


def whole_model(prepared: Prepared, engine: TrainingEngine) -> dict[str, Tensor] | None:
    """Every parameter by checkpoint name where it is read with, None on the other ranks (collective).

    Without a pipeline these are the tensors that train; with one, copies on rank 0's CPU.
    """
    world = engine.world
    mine = {name: parameter.detach() for name, parameter in engine.named_parameters()}
    if world.pipeline_stages == 1:
        return mine
    if engine.replica != 0:
        return None
    if engine.stage > 0:
        for tensor in mine.values():
            dist.send(tensor.contiguous(), dst=0)
        return None
    weights = {name: tensor.cpu() for name, tensor in mine.items()}
    bounds = prepared.cut.bounds
    dtype = next(iter(mine.values())).dtype
    for stage in range(1, world.pipeline_stages):
        for layer in prepared.layers[bounds[stage] : bounds[stage + 1]]:
            for name, shape in layer.shapes.items():  # in the order in which the stage names its parameters
                received = torch.empty(shape, dtype=dtype, device=engine.device)
                dist.recv(received, src=stage * world.data_parallel_size)
                weights[name] = received.cpu()
    return weights


def _assembled(prepared: Prepared, weights: dict[str, Tensor]) -> DeepseekOCR:
    """A model of these very tensors, adapters merged into copies."""
    with shapes_only():
        model = DeepseekOCR(prepared.model)
    model.load_state_dict(merge_adapters(weights, prepared.config.lora.scale), assign=True)
    return model


def _samples(dataset: Dataset, numbers: range) -> list[Sample]:
    samples = []
    for number in numbers:
        try:
            samples.append(dataset.read(number))
        except (DamagedSampleError, OSError):
            continue  # the loss of this dataset says what is wrong with it
    return samples


def _read(prepared: Prepared, model: DeepseekOCR, sample: Sample) -> Tensor:
    """float64 [2]: characters that differ, and those of the longer text."""
    try:
        images = [open_image(image) for image in sample.images]
        mode = usual_mode(prepared.config.resolution_modes(), sample.task)
        limit = prepared.config.evaluate.tokens
        (answer,) = generate(model, prepared.tokenizer, [sample.prompt], [images], mode, max_new_tokens=limit)
    except ValueError:  # an image that cannot be used, or more tokens than the model has places for
        return torch.zeros(2, dtype=torch.float64)
    distance = Levenshtein.distance(answer.text, sample.response)
    return torch.tensor([distance, max(len(answer.text), len(sample.response))], dtype=torch.float64)


def usual_mode(modes: ModeChoices, task: str) -> ResolutionMode:
    """The mode that a task is trained in most."""
    shares = ModeShares.of(modes.get(task, modes[DEFAULT_MODE]))
    return max(zip(shares.slots, shares.modes, strict=True), key=lambda pair: pair[0])[1]
