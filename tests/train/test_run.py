"""Whole runs by their command: resuming, other cuts, export, requests to stop, and what is refused."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import model as model_room
from data_engine.command_line import compose
from data_engine.errors import ConfigError
from model.tokenizer import Tokenizer
from tests.small_disks import mounted_disk
from tests.train.conftest import Material
from tests.train.processes import REPOSITORY, environment, run, succeeded, train
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.export import export_run, trained_model
from train.initialise import resolve, weight_source
from train.prepare import prepare
from train.run_directory import RunDirectory

SMALL = [
    "sequence.tokens=128", "sequence.patches=384", "sequence.views=6", "sequence.vision_tokens=24",
    "logging.every=1", "logging.wandb=disabled", "logging.plots=false", "mixture_window=32",
    "mixture=[]", "optimizer.learning_rate=2e-3", "optimizer.warmup_steps=2", "checkpoint.keep_last=9",
]  # fmt: skip
STAGE_2 = ["experiment=nano_stage2", *SMALL, "micro_batches=3", "steps=6", "checkpoint.every=3"]
EXACT = (
    "step", "loss", "gradient_norm", "learning_rate", "stage_gradient_norms", "part_gradient_norms", "balance_loss",
)  # fmt: skip


def metrics(run_directory: Path) -> list[dict]:
    return [json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()]


def weights(run_directory: Path, step: int) -> dict[str, torch.Tensor]:
    merged: dict[str, torch.Tensor] = {}
    for path in sorted((run_directory / f"checkpoints/step_{step}").glob("stage_*.safetensors")):
        merged |= load_file(path)
    return merged


def half_way(finished: Path, copy: Path) -> Path:
    """A run that was interrupted after step 3."""
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "checkpoints" / "step_6")
    (copy / "latest").write_text("step_3\n")
    return copy


@pytest.fixture(scope="module")
def stage_1(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "stage1"
    arguments = ["experiment=nano_stage1", *SMALL, "micro_batches=1", "steps=3", f"run={directory}"]
    succeeded(train(1, *arguments, *material.arguments))
    return directory


@pytest.fixture(scope="module")
def finished(material: Material, stage_1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of stage 2 in four processes, uninterrupted."""
    directory = tmp_path_factory.mktemp("runs") / "stage2"
    result = succeeded(train(4, *STAGE_2, f"run={directory}", f"init={stage_1}", *material.arguments))
    # The embedding, decoder and head are new; the language model of stage 1 stays behind.
    assert "new: " in result.stdout and "left behind" in result.stdout
    return directory


@pytest.mark.slow
def test_encoder_of_stage_1_moves_into_stage_2(stage_1: Path, finished: Path) -> None:
    before, after = weights(stage_1, 3), weights(finished, 3)
    frozen = [name for name in after if name.startswith("weight/model.sam_model.")]
    assert frozen
    for name in frozen:
        assert torch.equal(before[name], after[name]), name
        assert name.replace("weight/", "exp_avg/") not in after


@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit(material: Material, finished: Path, tmp_path: Path) -> None:
    resumed = half_way(finished, tmp_path / "run")
    succeeded(train(4, *STAGE_2, f"run={resumed}", *material.arguments))
    expected, found = metrics(finished), metrics(resumed)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    for left, right in zip(expected, found, strict=True):
        assert {key: left[key] for key in EXACT} == {key: right[key] for key in EXACT}
    left_weights, right_weights = weights(finished, 6), weights(resumed, 6)
    assert left_weights.keys() == right_weights.keys()
    assert all(torch.equal(left_weights[name], right_weights[name]) for name in left_weights)


@pytest.mark.slow
def test_bf16_resumes_bit_for_bit(material: Material, tmp_path: Path) -> None:
    arguments = [*STAGE_2, "parallel.pipeline_stages=1", "parallel.cut=balanced", "precision=bf16"]
    whole = tmp_path / "whole"
    succeeded(train(1, *arguments, f"run={whole}", *material.arguments))
    resumed = half_way(whole, tmp_path / "resumed")
    succeeded(train(1, *arguments, f"run={resumed}", *material.arguments))
    assert [row["loss"] for row in metrics(whole)] == [row["loss"] for row in metrics(resumed)]
    left_weights, right_weights = weights(whole, 6), weights(resumed, 6)
    assert left_weights.keys() == right_weights.keys()
    assert all(torch.equal(left_weights[name], right_weights[name]) for name in left_weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "arguments"),
    [
        (1, ["parallel.pipeline_stages=1"]),
        (2, ["parallel.pipeline_stages=2", "parallel.cut=[3]"]),
        pytest.param(3, ["parallel.pipeline_stages=1", "micro_batches=1"], marks=pytest.mark.thorough),
    ],
    ids=["one process", "two stages", "three replicas"],
)
def test_a_checkpoint_goes_on_under_another_cut(
    material: Material, finished: Path, tmp_path: Path, processes: int, arguments: list[str]
) -> None:
    resumed = half_way(finished, tmp_path / "run")
    overrides = {argument.partition("=")[0] for argument in arguments}
    kept = [
        argument for argument in STAGE_2 if argument.partition("=")[0] not in overrides | {"parallel.cut"}
    ]
    cut = [] if "parallel.cut" in overrides else ["parallel.cut=balanced"]
    succeeded(train(processes, *kept, *cut, *arguments, f"run={resumed}", *material.arguments))
    for left, right in zip(metrics(finished), metrics(resumed), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-5)
        assert right["samples"] == left["samples"]
    left_weights, right_weights = weights(finished, 6), weights(resumed, 6)
    assert left_weights.keys() == right_weights.keys()


@pytest.mark.slow
def test_export_gives_the_trained_model(material: Material, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    export = [sys.executable, "-m", "train", "export=true", f"run={finished}", f"out={out}"]
    succeeded(run(export, 200))
    loaded = model_room.load(out, dtype=torch.float32)
    checkpoint = Checkpoint.open(finished / "checkpoints/step_6")
    trained = trained_model(checkpoint).to(torch.bfloat16).float()
    ids = torch.randint(20, 270, (1, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, trained.eval()(ids).logits)
    assert (
        Tokenizer.from_directory(out).fingerprint == Tokenizer.from_directory(material.tokenizer).fingerprint
    )
    assert (
        json.loads((out / "processor_config.json").read_text())["resolution_modes"]["default"] == "nano_tiny"
    )

    shapes = {name: tuple(parameter.shape) for name, parameter in trained.named_parameters()}
    assert any(name.endswith("experts.gate_up_proj") for name in shapes), (
        "experts are stacked here, single there"
    )
    source = weight_source(resolve(str(out), print), shapes)
    assert source.shapes == shapes
    for name, tensor in source.read(list(shapes)):
        assert torch.equal(tensor, trained.get_parameter(name)), name

    with pytest.raises(ConfigError, match="exists"):
        export_run(RunDirectory(finished), str(out), print)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(material: Material, finished: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run"
    shutil.copytree(finished, damaged)
    victim = damaged / "checkpoints/step_6/stage_2.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    one = [*STAGE_2, "parallel.pipeline_stages=1", "parallel.cut=balanced"]
    result = succeeded(train(1, *one, f"run={damaged}", *material.arguments))
    assert "step_6 is damaged and not used: the content of stage_2.safetensors has changed" in result.stdout
    assert "using checkpoint step_3 instead" in result.stdout
    assert metrics(damaged)[-1]["loss"] == pytest.approx(metrics(finished)[-1]["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(material: Material, tmp_path: Path, how: str) -> None:
    directory = tmp_path / "run"
    arguments = [
        "experiment=nano_stage1", *SMALL, "micro_batches=1", "steps=4000", "checkpoint.every=4000",
        f"run={directory}", *material.arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "train", *arguments], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 3 "):
                    break
            if how == "signal":
                process.send_signal(signal.SIGTERM)
            else:
                (directory / "control/stop").touch()
            rest, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == (128 + signal.SIGTERM if how == "signal" else 0), rest
    stopped = int((directory / "latest").read_text().strip().removeprefix("step_"))
    assert 3 <= stopped < 4000
    assert f"stopped as asked at step {stopped} of 4000" in rest
    assert (directory / "control/stopped").exists()
    assert Checkpoint.open(directory / f"checkpoints/step_{stopped}").step == stopped


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One checkpoint of stage 1 takes over 20 MiB."""
    with mounted_disk(tmp_path / "disk", "3m") as disk:
        yield disk


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_sentence(material: Material, small_disk: Path) -> None:
    directory = small_disk / "run"
    arguments = ["experiment=nano_stage1", *SMALL, "micro_batches=1", "steps=3", f"run={directory}"]
    result = train(1, *arguments, *material.arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: checkpoint step_3 cannot be written: no space left: it takes ")
    assert "MiB free" in result.stderr and result.stderr.count("\n") == 1
    assert not list((directory / "checkpoints").iterdir()), "half a checkpoint stayed"
    assert not (directory / "latest").exists()


REFUSED = [
    (["data=/nowhere"], "/nowhere"),
    (["tokenizer=/nowhere"], "tokenizer.json"),
    (["stepz=3"], "unknown key 'stepz'; did you mean 'steps'?"),
    (["steps=many"], "steps"),
    (["freeze=[model.sam]"], "freeze names 'model.sam'"),
    (["freeze=[model,lm_head]"], "leaves nothing to train"),
    (["modes.default=huge"], "modes"),
    (["sequence.tokens=8"], "sequence.tokens=8 is too small"),
    (["parallel.cut=[1,2,9]"], "parallel.cut=[1, 2, 9] names layers outside 1..7"),
    (["parallel.pipeline_stages=8", "parallel.cut=paper"], "defined for four stages"),
    (["model.preset=huge"], "huge"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_what_cannot_be_is_refused_in_one_sentence(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    given = {argument.partition("=")[0] for argument in arguments}
    rest = [
        argument for argument in [*STAGE_2, *material.arguments] if argument.partition("=")[0] not in given
    ]
    directory = tmp_path / "run"
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(ConfigError) as refusal:
        prepare(compose(TrainConfig, [*rest, *arguments, f"run={directory}"], "train"))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not directory.exists()


def test_a_refusal_is_one_line_and_status_2(material: Material, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    arguments = [*STAGE_2, *material.arguments, f"run={directory}", "sequence.tokens=8"]
    result = run([sys.executable, "-m", "train", *arguments], 200, RANK="0", WORLD_SIZE="4")
    assert result.returncode == 2
    assert result.stderr.startswith("error: sequence.tokens=8") and result.stderr.count("\n") == 1
    assert not directory.exists()


@pytest.mark.slow
def test_who_refuses_alone_says_so_itself(material: Material, tmp_path: Path) -> None:
    """As where a directory is missing on one machine only: rank 0 goes on, and nobody else would tell."""
    arguments = [*STAGE_2, *material.arguments, f"run={tmp_path / 'run'}", "stepz=4"]
    ranks = {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}
    result = run([sys.executable, "-m", "train", *arguments], 200, **ranks)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: rank 2 on {platform.node()}: ")
    assert "stepz" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_three_processes_for_four_stages_are_refused_before_they_meet(
    material: Material, tmp_path: Path
) -> None:
    result = train(3, *STAGE_2, f"run={tmp_path / 'run'}", *material.arguments)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert "3 processes cannot run a pipeline of 4 stages: 3 = 0 × 4 + 3" in result.stderr


@pytest.mark.slow
def test_a_run_directory_in_use_or_of_another_run_is_refused(
    material: Material, stage_1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    mine = tmp_path / "run"
    shutil.copytree(stage_1, mine)
    arguments = ["experiment=nano_stage1", *SMALL, "micro_batches=1", "steps=3", *material.arguments]

    def refused(*more: str) -> str:
        with pytest.raises(ConfigError) as refusal:
            prepare(compose(TrainConfig, [*arguments, *more], "train"))
        return str(refusal.value)

    with open(mine / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is at work" in refused(f"run={mine}")
    other = refused(f"run={mine}", "optimizer.learning_rate=0.5")
    assert "was started with optimizer.learning_rate=0.002, not 0.5" in other

    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("text")
    assert "is not a run directory" in refused(f"run={foreign}")
    assert os.listdir(foreign) == ["thesis.tex"]


def test_a_directory_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "something else"}')
    with pytest.raises(ConfigError, match="not a checkpoint of this project"):
        Checkpoint.open(tmp_path)
    with pytest.raises(ConfigError, match="has no manifest"):
        Checkpoint.open(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="not a run directory"):
        RunDirectory(tmp_path).read_config()
