import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import model as ocr
from model.__main__ import main
from model.convert import WEIGHTS_NAME, CheckpointError


def test_export_then_import_is_equal_bit_for_bit(nano, tmp_path):
    ocr.save(nano, tmp_path / "out", dtype=torch.float32)
    again = ocr.load(tmp_path / "out")
    assert [name for name, _ in nano.named_parameters()] == [name for name, _ in again.named_parameters()]
    for ours, theirs in zip(nano.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    ocr.save(again, tmp_path / "second", dtype=torch.float32)
    first = (tmp_path / "out" / WEIGHTS_NAME).read_bytes()
    assert first == (tmp_path / "second" / WEIGHTS_NAME).read_bytes()


def test_the_file_is_bfloat16_with_single_experts_by_default(nano, tmp_path):
    ocr.save(nano, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / WEIGHTS_NAME)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["model.layers.1.mlp.experts.7.gate_proj.weight"].shape == (96, 128)
    assert ocr.load(tmp_path / "out").lm_head.weight.dtype == torch.bfloat16
    assert ocr.load(tmp_path / "out", dtype=torch.float32).lm_head.weight.dtype == torch.float32
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    assert set(index["weight_map"]) == set(tensors)


def test_several_files_with_an_index_are_read(nano, tmp_path):
    ocr.save(nano, tmp_path / "out", dtype=torch.float32)
    tensors = load_file(tmp_path / "out" / WEIGHTS_NAME)
    (tmp_path / "out" / WEIGHTS_NAME).unlink()
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, tmp_path / "out" / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    index = tmp_path / "out" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(ocr.load(tmp_path / "out").lm_head.weight, nano.lm_head.weight)
    (tmp_path / "out" / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks b\.safetensors"):
        ocr.load(tmp_path / "out")


def test_bad_checkpoints_are_refused_in_one_sentence(nano, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        ocr.load(tmp_path / "nothing")
    target = tmp_path / "out"
    ocr.save(nano, target, dtype=torch.float32)
    with pytest.raises(CheckpointError, match="exists"):
        ocr.save(nano, target)
    (target / "model.safetensors.index.json").unlink()
    tensors = load_file(target / WEIGHTS_NAME)
    changed = {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}
    changed["model.extra"] = torch.zeros(1)
    changed["lm_head.weight"] = torch.zeros(2, 2)
    save_file(changed, target / WEIGHTS_NAME)
    with pytest.raises(CheckpointError) as caught:
        ocr.load(target)
    message = str(caught.value)
    assert "in 3 tensors" in message
    assert "missing model.norm.weight" in message
    assert "unknown model.extra" in message
    assert "lm_head.weight is [2, 2] instead of [512, 128]" in message
    (target / WEIGHTS_NAME).write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        ocr.load(target)


def test_a_checkpoint_written_again_from_the_command_line_is_the_same(nano, tmp_path, capsys):
    ocr.save(nano, tmp_path / "released")
    (tmp_path / "released" / "tokenizer.json").write_bytes(b'{"a": 1}\n')
    arguments = [f"checkpoint={tmp_path / 'released'}", f"out={tmp_path / 'again'}"]
    assert main(arguments) == 0
    assert "parameters" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "released").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (tmp_path / "released" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*arguments, "sam=x.pth"]) == 2
    assert "leave one out" in capsys.readouterr().err


def test_nothing_half_written_remains(nano, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.tensor_files.os.fsync", fail)  # all bytes are written by then
    with pytest.raises(OSError, match="No space left"):
        ocr.save(nano, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
