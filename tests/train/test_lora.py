"""Adapters, and evaluation while training: a run with both, gone on with without evaluation, and cut into stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_engine.command_line import compose
from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from model.lora import TARGETS, is_adapter
from tests.train.conftest import Material
from tests.train.processes import succeeded, train
from tests.train.synthetic import IMAGE, SHAPE, VOCABULARY
from tests.train.test_faults import flip
from tests.train.test_run import STAGE_2, metrics, weights
from train.assemble import assemble, model_config
from train.checkpoint import Checkpoint
from train.config import ModelChoice, TrainConfig
from train.export import trained_model
from train.initialise import CheckpointSource
from train.lora import merge_adapters
from train.prepare import prepare
from train.settings import LORA_TARGETS, Evaluation, Lora

STEPS = [*STAGE_2, "steps=4", "checkpoint.every=2", "lora.rank=4", "lora.alpha=16"]
ALONE = ["parallel.pipeline_stages=1", "parallel.cut=balanced"]
EXACT = ("step", "loss", "gradient_norm", "balance_loss")


def evaluated(material: Material) -> list[str]:
    return [
        "evaluate.every=1", f"evaluate.data={material.data}", "evaluate.batches=2", "evaluate.read=2",
        "evaluate.tokens=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps with adapters, evaluated after each."""
    run = tmp_path_factory.mktemp("runs") / "tuned"
    arguments = [*STEPS, *ALONE, *evaluated(material), f"run={run}", *material.arguments]
    result = succeeded(train(1, *arguments))
    assert result.stdout.count("held-out loss: card ") == 4 and "; characters read: card " in result.stdout
    return run


@pytest.mark.slow
def test_only_adapters_train_and_the_export_is_their_sum_with_the_model(tuned: Path) -> None:
    before, after = weights(tuned, 2), weights(tuned, 4)
    named = {
        name.removeprefix("weight/"): tensor for name, tensor in after.items() if name.startswith("weight/")
    }
    for name, tensor in named.items():
        assert torch.equal(before[f"weight/{name}"], tensor) != is_adapter(name), name
        assert (f"exp_avg/{name}" in after) == is_adapter(name), name
    checkpoint = Checkpoint.open(tuned / "checkpoints/step_4")
    plain = merge_adapters(named, 16 / 4)
    exported = {name: tensor.detach() for name, tensor in trained_model(checkpoint).named_parameters()}
    assert exported.keys() == plain.keys()
    assert all(torch.equal(exported[name], plain[name]) for name in plain)
    changed = {name for name in plain if not torch.equal(plain[name], named[name])}
    assert {
        name.removesuffix(".lora_A.default.weight") + ".weight" for name in named if "lora_A" in name
    } == changed
    source = CheckpointSource(checkpoint)
    assert source.shapes.keys() == plain.keys(), "whoever starts from this run gets a plain model"
    name = sorted(changed)[0]
    ((_, read),) = source.read([name])
    assert torch.equal(read, plain[name])


@pytest.mark.slow
def test_resumed_without_evaluation_it_goes_on_bit_for_bit(
    material: Material, tuned: Path, tmp_path: Path
) -> None:
    resumed = tmp_path / "run"
    shutil.copytree(tuned, resumed)
    shutil.rmtree(resumed / "checkpoints/step_4")
    (resumed / "latest").write_text("step_2\n")
    succeeded(train(1, *STEPS, *ALONE, f"run={resumed}", *material.arguments))
    expected, found = metrics(tuned), metrics(resumed)
    for left, right in zip(expected, found, strict=True):
        assert {key: left[key] for key in EXACT} == {key: right[key] for key in EXACT}
    assert "held_out_loss" in expected[3] and "held_out_loss" not in found[3]
    left_weights, right_weights = weights(tuned, 4), weights(resumed, 4)
    assert left_weights.keys() == right_weights.keys()
    assert all(torch.equal(left_weights[name], right_weights[name]) for name in left_weights)


@pytest.mark.slow
@pytest.mark.thorough
def test_stages_train_and_read_the_same(material: Material, tuned: Path, tmp_path: Path) -> None:
    """The first stage has nothing that trains, the last one the head, which is frozen as well."""
    run = tmp_path / "run"
    cut = ["parallel.pipeline_stages=3", "parallel.cut=[1,4]"]
    succeeded(train(3, *STEPS, *cut, *evaluated(material), f"run={run}", *material.arguments))
    for left, right in zip(metrics(tuned), metrics(run), strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-6)
        assert right["gradient_norm"] == pytest.approx(left["gradient_norm"], rel=1e-5)
        assert right["held_out_loss"] == pytest.approx(left["held_out_loss"], rel=1e-6)
        assert right["held_out_task_loss"] == pytest.approx(left["held_out_task_loss"], rel=1e-6)
        assert right["reading_accuracy"] == left["reading_accuracy"]


@pytest.mark.slow
def test_every_cut_starts_with_the_same_adapters_and_the_model_unchanged() -> None:
    plain, tuned = TrainConfig(sequence=SHAPE), TrainConfig(sequence=SHAPE, lora=Lora(rank=2))
    model = model_config(plain.model, VOCABULARY, IMAGE)

    def started(config: TrainConfig, only: str = "") -> dict[str, Tensor]:
        layers = assemble(config, model, 1)
        return {
            name: parameter
            for layer in layers
            if layer.info.name.startswith(only)
            for name, parameter in layer.build().named_checkpoint_parameters()
        }

    before, whole, one = started(plain), started(tuned), started(tuned, "decoder 2")
    assert all(torch.equal(whole[name], before[name]) for name in before)
    assert all(torch.equal(whole[name], one[name]) for name in one)
    assert {name for name, parameter in whole.items() if parameter.requires_grad} == set(whole) - set(before)
    merged = merge_adapters(whole, 1.0)
    assert all(torch.equal(merged[name], before[name]) for name in before), "B starts at zero"


def test_targets_are_those_of_the_model() -> None:
    assert tuple(TARGETS) == LORA_TARGETS


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Lora(rank=-1), "lora.rank=-1 must be 0"),
        (
            lambda: Lora(targets=["experts"]),
            r"lora.targets=\['experts'\] must be some of attention, shared_experts",
        ),
        (lambda: Evaluation(every=5), "evaluate.every=5 needs evaluate.data=DIR"),
        (lambda: Evaluation(every=5, data="x", read=-1), "evaluate.read=-1 must be 0"),
        (
            lambda: TrainConfig(model=ModelChoice(architecture="encoder_lm"), lora=Lora(rank=4)),
            "lora.rank is for model.architecture=deepseek_ocr, not for encoder_lm",
        ),
        (
            lambda: TrainConfig(model=ModelChoice(architecture="encoder_lm"), evaluate=Evaluation(read=1)),
            "evaluate.read is for model.architecture=deepseek_ocr",
        ),
    ],
)
def test_refusals(make: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()  # type: ignore[operator]


@pytest.mark.slow
def test_held_out_data_that_is_not_there_is_refused_and_damaged_data_is_left_out(
    material: Material, tmp_path: Path
) -> None:
    held_out, run = tmp_path / "held_out", tmp_path / "run"
    arguments = [
        *STAGE_2, *ALONE, "steps=1", "optimizer.warmup_steps=0", f"run={run}", *material.arguments,
        "evaluate.every=1", f"evaluate.data={held_out}",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"^evaluate.data: the data directory .* does not exist"):
        prepare(compose(TrainConfig, arguments, "train"))
    assert not run.exists()
    shutil.copytree(material.data / "card", held_out / "card")
    (tar,) = (held_out / "card").glob("*.tar")
    data = Dataset.open(material.data / "card")
    flip(tar, [f"{data.key(i)}.png" for i in range(len(data))])
    succeeded(train(1, *arguments))
    (row,) = metrics(run)
    assert row["held_out_loss"] == {} and "loss" in row
    assert "evaluation of card left out: " in (run / "log.txt").read_text()
    flip(
        tar, [f"{data.key(0)}.json"]
    )  # texts are read to plan the packs, so this is known before anything starts
    with pytest.raises(
        ConfigError, match=r"^evaluate.data: sample card-0+ .* checksum of its json does not match"
    ):
        prepare(compose(TrainConfig, [*arguments, f"run={tmp_path / 'other'}"], "train"))
