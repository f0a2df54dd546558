"""The planner's memory against a real engine, and its messages against what the layers really send."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.train.pipeline_worker import configuration
from tests.train.processes import run, succeeded
from tests.train.synthetic import IMAGE, MIXED, VOCABULARY, Plan
from train.assemble import model_config
from train.planning.cluster import messages
from train.planning.cutting import cut_model
from train.planning.memory import REDUCE_BUCKET


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_engine_holds_what_the_planner_says(precision: str) -> None:
    script = Path(__file__).with_name("engine_memory.py")
    found = json.loads(succeeded(run([sys.executable, str(script), precision], 120)).stdout.splitlines()[-1])
    assert found["bucket"] == REDUCE_BUCKET
    floats = sum(
        found["before"][dtype] for dtype in ("torch.float32", "torch.bfloat16") if dtype in found["before"]
    )
    said = found["weights"] + found["gradients"] + found["optimizer"]
    if precision == "fp32":
        # The bucket lives only while gradients are reduced; here everything fits into it.
        said -= found["gradients"]
    assert said == pytest.approx(floats, rel=0.01)


def test_messages_are_what_the_layers_send() -> None:
    config = configuration({"stages": 4, "cut": "paper", "kinds": [[MIXED]]})
    model = model_config(config.model, VOCABULARY, IMAGE)
    cut = cut_model(config, model, 2)
    said = messages(cut.infos, cut.bounds, cut.memory.widths, 2)
    value = Plan(((MIXED,),)).batches(0)[0]
    assert sum(tensor.nbytes for tensor in value) == cut.memory.widths.micro_batch()
    for number, layer in enumerate(cut.layers[:-1]):
        with torch.no_grad():
            value = layer.build()(tuple(value))
        if number + 1 in cut.bounds:
            boundary = cut.bounds.index(number + 1) - 1
            assert sum(tensor.nbytes for tensor in value) == said.forward[boundary]
            floats = sum(tensor.nbytes for tensor in value if tensor.is_floating_point())
            assert floats == said.backward[boundary], "only floats come back as gradients"
    trainable = [sum(info.trainable for info in cut.infos[a:b]) for a, b in pairwise(cut.bounds)]
    assert list(said.reduced) == [4.0 * count for count in trainable], "2 (d - 1) / d is 1 for two replicas"


def test_more_stages_and_more_replicas_need_less() -> None:
    largest = {}
    for stages, replicas in ((1, 1), (2, 1), (4, 1), (4, 2)):
        config = configuration({"stages": stages, "kinds": [[MIXED] * 4], "precision": "bf16"})
        cut = cut_model(config, model_config(config.model, VOCABULARY, IMAGE), replicas)
        largest[stages, replicas] = max(row.memory.static for row in cut.table)
    assert largest[1, 1] > largest[2, 1] > largest[4, 1] > largest[4, 2]
