"""From a run's checkpoint to a model directory in the released layout, which the whole ecosystem loads.

Weights, index and config.json are written by `model.save`; the tokenizer's files are copied byte for byte from
the run. All of it is made beside the target and renamed at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_json
from model.config import DeepseekOCRConfig
from model.convert import new_directory, write_checkpoint
from model.deepseek_ocr import DeepseekOCR
from model.meta import shapes_only
from model.tokenizer import IMAGE, PAD
from train.checkpoint import Checkpoint, find_checkpoint
from train.lora import plain_weights
from train.run_directory import TOKENIZER_FILES, RunDirectory


def export_run(run: RunDirectory, out: str, say: Callable[[str], None]) -> Checkpoint:
    """Write the newest whole checkpoint of a run to the new directory `out`.

    Raises:
        ConfigError: `out` exists, this is no run, it has no whole checkpoint, or it trained stage 1.
    """
    target = Path(out)
    if target.exists():
        raise ConfigError(f"export target out={target} exists; choose another directory or remove it first.")
    config = run.read_config()
    checkpoint = find_checkpoint(run, say)
    if checkpoint is None:
        raise ConfigError(f"run={run.path} has no whole checkpoint to export.")
    if checkpoint.manifest["architecture"] != "deepseek_ocr":
        raise ConfigError(
            f"run={run.path} trained {checkpoint.manifest['architecture']}; only deepseek_ocr (stage 2) has a released "
            "layout. Give this run as init= of a stage-2 run."
        )
    with new_directory(target) as made:
        write_checkpoint(trained_model(checkpoint), made, torch.bfloat16)
        for name in TOKENIZER_FILES:
            if (run.tokenizer / name).is_file():
                shutil.copyfile(run.tokenizer / name, made / name)
        atomic_write_json(made / "processor_config.json", _processor_config(config))
    return checkpoint


def trained_model(checkpoint: Checkpoint) -> DeepseekOCR:
    """The model of a stage-2 checkpoint with its fp32 master weights, adapters added to them."""
    config = DeepseekOCRConfig.from_dict(checkpoint.manifest["model"])
    with shapes_only():
        model = DeepseekOCR(config)
    model = model.to_empty(device="cpu")
    parameters = dict(model.named_parameters())
    missing = sorted(parameters.keys() - checkpoint.names)
    if missing:
        raise ConfigError(f"'{checkpoint.directory}' lacks {missing[0]} and cannot be exported.")
    with torch.no_grad():
        for name, tensor in plain_weights(checkpoint, list(parameters)):
            parameters[name].copy_(tensor)
    return model


def _processor_config(config: dict[str, Any]) -> dict[str, Any]:
    """As released; ours are `resolution_modes`, the mode each task was trained in most, and the shares of all."""
    return {
        "add_special_token": False,
        "candidate_resolutions": [[1024, 1024]],
        "downsample_ratio": 4,
        "ignore_id": -100,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_token": IMAGE,
        "mask_prompt": False,
        "normalize": True,
        "pad_token": PAD,
        "patch_size": 16,
        "processor_class": "DeepseekVLV2Processor",
        "resolution_modes": {
            task: _most_frequent(choice) for task, choice in config.get("modes", {}).items()
        },
        "resolution_mode_shares": config.get("modes", {}),
        "sft_format": "deepseek",
    }


def _most_frequent(choice: str | dict[str, float]) -> str:
    return choice if isinstance(choice, str) else max(choice, key=lambda name: choice[name])
