"""Runs `python -m train` with faults built in; tests start it in place of `train`.

    python -m tests.train.faulty '[{"fault": "kill", "rank": 1, "step": 3}]' ARGUMENTS...

Steps are counted from 0. A fault with "once": PATH happens once, whatever is started again; PATH remembers it.

    nan, spike            the float output of the rank's last layer, in one micro-batch
    kill, freeze, hang    SIGKILL, SIGSTOP, an endless loop, in the forward pass of one micro-batch
    terminate             SIGTERM, there too
    sleep                 every forward pass of the rank from this step on takes "seconds" longer
    full                  the disk is full while the checkpoint of this step is written
    slow                  the disk takes "seconds" to write a stage's part of the checkpoint of this step
    die_writing, die_before_rename, die_after_rename, die_removing
                          SIGKILL while the checkpoint of this step is saved, or while it is removed
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from train import checkpoint_writing, pipeline_engine
from train.data.micro_batch import HEADER, HEADER_MICRO_BATCH, HEADER_STEP

Fault = dict[str, Any]


def strikes(fault: Fault) -> bool:
    """Whether it is this process's turn; a fault that happens once is marked first, for it may end everything."""
    if fault.get("rank", 0) != int(os.environ.get("RANK", "0")):
        return False
    marker = fault.get("once")
    if marker is None:
        return True
    if Path(marker).exists():
        return False
    Path(marker).touch()
    return True


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def hang_here() -> None:
    while True:
        time.sleep(0.1)


IN_PASSES: dict[str, Callable[[], None]] = {
    "kill": die,
    "hang": hang_here,
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
}


def broken(outputs: Any, factor: float) -> Any:
    if isinstance(outputs, Tensor):
        return outputs * factor
    return tuple(output * factor if output.is_floating_point() else output for output in outputs)


def install_in_passes(faults: list[Fault]) -> None:
    original = pipeline_engine.Module.forward

    def forward(self: Any, batch: tuple[Tensor, ...]) -> Any:
        header = batch[-1][HEADER].tolist()
        outputs = original(self, batch)
        for fault in faults:
            step, place = fault.get("step", 0), fault.get("micro_batch", 0)
            here = header[HEADER_STEP] == step and header[HEADER_MICRO_BATCH] == place
            if fault["fault"] == "sleep":
                if header[HEADER_STEP] >= step and strikes(fault):
                    time.sleep(fault["seconds"])
            elif not torch.is_grad_enabled() or not here or not strikes(fault):
                continue
            elif fault["fault"] == "nan":
                outputs = broken(outputs, float("nan"))
            elif fault["fault"] == "spike":
                outputs = broken(outputs, 1000.0)
            else:
                IN_PASSES[fault["fault"]]()
        return outputs

    pipeline_engine.Module.forward = forward


def install_in_saving(fault: Fault) -> None:
    name, kind = f"step_{fault['step']}", fault["fault"]
    write, replace = checkpoint_writing.save_file, os.replace

    def save_file(tensors: dict[str, Tensor], path: Path, **more: Any) -> None:
        mine = f".{name}.tmp" in str(path)
        if mine and kind == "die_writing" and strikes(fault):
            path.write_bytes(b"half")
            die()
        if mine and kind == "full" and strikes(fault):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        if mine and kind == "slow" and path.name.startswith("stage_") and strikes(fault):
            time.sleep(fault["seconds"])
        write(tensors, path, **more)

    def os_replace(source: Any, target: Any) -> None:
        renamed = Path(target).name == name
        if renamed and kind == "die_before_rename" and strikes(fault):
            die()
        replace(source, target)
        removed = Path(target).name == f".{name}.old"
        if ((renamed and kind == "die_after_rename") or (removed and kind == "die_removing")) and strikes(
            fault
        ):
            die()

    checkpoint_writing.save_file = save_file
    os.replace = os_replace


def main(faults: list[Fault], arguments: list[str]) -> None:
    in_saving: Callable[[Fault], bool] = lambda fault: fault["fault"].startswith(("die_", "full", "slow"))  # noqa: E731
    install_in_passes([fault for fault in faults if not in_saving(fault)])
    for fault in filter(in_saving, faults):
        install_in_saving(fault)
    sys.argv = ["train", *arguments]
    runpy.run_module("train", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
