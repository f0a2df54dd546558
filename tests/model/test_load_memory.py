"""Loading needs the weights and little more: the full size must fit where its weights fit."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import model as ocr
from model import DeepseekOCR, DeepseekOCRConfig
from model.convert import WEIGHTS_NAME

MEASURE = """
import sys, torch, model

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

model.load(sys.argv[1])  # a nano model first: whatever torch imports on the way is not the weights' memory
before = peak()
loaded = model.load(sys.argv[2])
print(peak() - before, sum(parameter.nbytes for parameter in loaded.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_loading_needs_the_weights_and_a_fraction(nano, tmp_path):
    ocr.save(nano, tmp_path / "nano", dtype=torch.float32)
    # Many small tensors and no large one, as in the full size, where the largest is a twentieth of the whole.
    usual = DeepseekOCRConfig.preset("nano")
    language = dataclasses.replace(usual.language, n_routed_experts=128, moe_intermediate_size=360)
    config = dataclasses.replace(usual, language=language)
    ocr.save(DeepseekOCR(config), tmp_path / "one_file", dtype=torch.float32)
    tensors = load_file(tmp_path / "one_file" / WEIGHTS_NAME)
    names = sorted(tensors)
    shards = tmp_path / "two_files"
    shards.mkdir()
    (shards / "config.json").write_text((tmp_path / "one_file" / "config.json").read_text())
    weight_map = {}
    for number in (0, 1):
        part = names[number::2]
        save_file({name: tensors[name] for name in part}, shards / f"{number}.safetensors")
        weight_map |= dict.fromkeys(part, f"{number}.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for directory in ("one_file", "two_files"):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "nano"), str(tmp_path / directory)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        grown, weights = map(int, result.stdout.split())
        assert weights > 200e6
        assert grown < 1.35 * weights + 20e6, f"{directory}: {grown / weights:.2f} times the weights"
