"""Import from the parents: tiny random ones in every layout, whose features ours must equal afterwards."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import model as ocr
from model import DeepseekOCR
from model.__main__ import main
from model.convert import WEIGHTS_NAME, released_tensors
from model.parents import import_parents
from model.tensor_files import CheckpointError


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Nothing stays at zero or one, so that no two tensors can be mistaken for each other."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module.eval()


def released(model: DeepseekOCR) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone()
        for ours, parameter in model.named_parameters()
        for name, tensor in released_tensors(ours, parameter)
    }


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@pytest.fixture
def other(nano_config) -> dict[str, Tensor]:
    """Tensors of a nano model, to be dressed up as parents."""
    return released(randomise(DeepseekOCR(nano_config), seed=5))  # type: ignore[arg-type]


@pytest.fixture
def sam_tensors(other) -> dict[str, Tensor]:
    """`sam_vit_b` as published: the image encoder ends at the neck; prompts and masks come with it."""
    encoder = {
        f"image_encoder.{name}": value
        for name, value in under(other, "model.sam_model.").items()
        if not name.startswith("net_")
    }
    return encoder | {
        "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 4),
        "mask_decoder.iou_token.weight": torch.zeros(1, 4),
    }


def to_openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our CLIP under OpenAI's names, with the rest of an OpenAI file around it."""
    renamed = {}
    for name, value in under(tensors, "model.vision_model.").items():
        for ours, theirs in (
            ("embeddings.class_embedding", "class_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("embeddings.patch_embedding.", "conv1."),
            ("pre_layrnorm.", "ln_pre."),
            ("transformer.layers.", "transformer.resblocks."),
            ("layer_norm", "ln_"),
            ("self_attn.qkv_proj.", "attn.in_proj_"),
            ("self_attn.out_proj.", "attn.out_proj."),
            ("mlp.fc1.", "mlp.c_fc."),
            ("mlp.fc2.", "mlp.c_proj."),
        ):
            name = name.replace(ours, theirs)
        renamed[f"visual.{name}"] = value
    rest = (
        "visual.ln_post.weight", "visual.proj", "logit_scale", "positional_embedding", "token_embedding.weight",
        "transformer.resblocks.0.attn.in_proj_weight", "ln_final.weight", "text_projection",
    )  # fmt: skip
    return renamed | {name: torch.zeros(2) for name in rest}


def test_sam_as_published_becomes_the_vision_tokenizer(sam_tensors, other, nano_config, tmp_path):
    torch.save(sam_tensors, tmp_path / "sam.pth")
    report = import_parents(
        tmp_path / "out", nano_config, sam=tmp_path / "sam.pth", seed=3, dtype=torch.float32
    )
    tensors = released(ocr.load(tmp_path / "out"))
    for name, value in under(tensors, "model.sam_model.").items():
        assert torch.equal(value, other[f"model.sam_model.{name}"]) == (not name.startswith("net_")), name
    assert "dropped 1: SAM's prompt encoder" in report and "dropped 1: SAM's mask decoder" in report
    assert "model.sam_model.net_2 (1)" in report and "model.projector (2)" in report
    assert "model.layers (" in report, "no decoder was given"
    # What is random depends on the seed alone, and a safetensors file gives the same as a .pth.
    save_file({name: value.contiguous() for name, value in sam_tensors.items()}, tmp_path / "sam.safetensors")
    import_parents(
        tmp_path / "again", nano_config, sam=tmp_path / "sam.safetensors", seed=3, dtype=torch.float32
    )
    assert (tmp_path / "out" / WEIGHTS_NAME).read_bytes() == (tmp_path / "again" / WEIGHTS_NAME).read_bytes()


def test_clip_in_the_openai_layout_also_in_half_precision(other, nano_config, tmp_path):
    half = {name: value.half() for name, value in to_openai(other).items()}
    torch.save({"state_dict": half}, tmp_path / "clip.pt")
    report = import_parents(tmp_path / "out", nano_config, clip=tmp_path / "clip.pt", dtype=torch.float32)
    tensors = released(ocr.load(tmp_path / "out"))
    for name, value in under(tensors, "model.vision_model.").items():
        assert torch.equal(value, other[f"model.vision_model.{name}"].half().float()), name
    assert "dropped 5: CLIP's text tower" in report


def as_torchscript(tensors: dict[str, Tensor]) -> torch.jit.ScriptModule:
    """A module tree with these parameters, as an archive holds it."""
    root = torch.nn.Module()
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=False))
    return torch.jit.script(root)


def test_clip_as_openai_publishes_it_a_torchscript_archive(other, nano_config, tmp_path):
    as_torchscript(to_openai(other)).save(tmp_path / "ViT.pt")
    import_parents(tmp_path / "out", nano_config, clip=tmp_path / "ViT.pt", dtype=torch.float32)
    tensors = released(ocr.load(tmp_path / "out"))
    for name, value in under(tensors, "model.vision_model.").items():
        assert torch.equal(value, other[f"model.vision_model.{name}"]), name


def write_decoder(tensors: dict[str, Tensor], directory: Path, prefix: str = "") -> None:
    """A decoder in the HF layout, in two shards with an index."""
    directory.mkdir()
    decoder = {
        f"{prefix}{name}": value.contiguous()
        for name, value in tensors.items()
        if re.match(r"lm_head|model\.(embed_tokens|layers|norm)", name)
    }
    names = sorted(decoder)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: decoder[name] for name in part}, directory / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("prefix", ["", "language."])
def test_a_sharded_decoder_gives_the_same_logits(prefix, other, nano_config, tmp_path):
    write_decoder(other, tmp_path / "decoder", prefix)
    import_parents(tmp_path / "out", nano_config, language=tmp_path / "decoder", dtype=torch.float32)
    parent = DeepseekOCR(nano_config)
    parent = randomise(parent, seed=5)  # as `other`
    ids = torch.tensor([[0, 7, 8, 9, 10]])
    with torch.no_grad():
        assert torch.equal(ocr.load(tmp_path / "out").eval()(ids).logits, parent(ids).logits)


def test_all_three_from_the_command_line(sam_tensors, other, tmp_path, capsys):
    torch.save(sam_tensors, tmp_path / "sam.pth")
    save_file(
        {name: value.contiguous() for name, value in to_openai(other).items()}, tmp_path / "c.safetensors"
    )
    write_decoder(other, tmp_path / "decoder")
    tokenizer = {"added_tokens": [{"id": 9, "content": "<image>"}]}
    (tmp_path / "decoder" / "tokenizer.json").write_text(json.dumps(tokenizer))
    out = tmp_path / "out"
    arguments = [f"sam={tmp_path}/sam.pth", f"clip={tmp_path}/c.safetensors", f"language={tmp_path}/decoder"]
    assert main([*arguments, "preset=nano", f"out={out}", "dtype=float32"]) == 0
    said = capsys.readouterr().out
    assert "random (seed 0): model.image_newline (1), model.view_seperator (1), " in said
    assert "model.sam_model.net_2 (1), model.sam_model.net_3 (1), model.projector (2)" in said
    assert ocr.load(out).config.image_token_id == 9
    assert json.loads((out / "tokenizer.json").read_text()) == tokenizer
    ours = load_file(out / WEIGHTS_NAME)
    differ = [name for name, value in ours.items() if not torch.equal(value, other[name])]
    assert sorted({".".join(name.split(".")[:3]) for name in differ}) == [
        "model.image_newline", "model.projector.layers", "model.sam_model.net_2", "model.sam_model.net_3",
        "model.view_seperator",
    ]  # fmt: skip


def test_every_tensor_is_loaded_dropped_or_named(sam_tensors, nano_config, tmp_path):
    changed = {name: value for name, value in sam_tensors.items() if name != "image_encoder.pos_embed"}
    torch.save(changed, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError, match="in no known layout"):
        import_parents(tmp_path / "out", nano_config, sam=tmp_path / "sam.pth")
    changed = dict(sam_tensors)
    changed["image_encoder.extra"] = torch.zeros(1)
    changed["image_encoder.neck.0.weight"] = torch.zeros(1, 2, 3, 4)
    changed["other.weight"] = torch.zeros(1)
    del changed["image_encoder.neck.1.bias"]
    torch.save(changed, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError) as caught:
        import_parents(tmp_path / "out", nano_config, sam=tmp_path / "sam.pth")
    message = str(caught.value)
    assert "in 4 tensors" in message
    assert "image_encoder.extra has no place" in message and "other.weight has no place" in message
    assert "image_encoder.neck.0.weight is [1, 2, 3, 4] instead of [64, 64, 1, 1]" in message
    assert "nothing for model.sam_model.neck.1.bias" in message
    assert not (tmp_path / "out").exists()


def test_a_decoder_with_other_settings_is_refused(other, nano_config, tmp_path):
    write_decoder(other, tmp_path / "decoder")
    settings = {"num_experts_per_tok": 6, "rms_norm_eps": 1e-6, "use_mla": True}
    (tmp_path / "decoder" / "config.json").write_text(json.dumps({"language_config": settings}))
    with pytest.raises(CheckpointError) as caught:
        import_parents(tmp_path / "out", nano_config, language=tmp_path / "decoder")
    assert "num_experts_per_tok is 6 there and 2 here; use_mla is True there and False here" in str(
        caught.value
    )


class Anything:
    """What a plain-tensor reader must not bring to life."""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"image_encoder.pos_embed": Anything()}, "more than plain tensors"),
        ({"image_encoder.pos_embed": 1.5}, "holds more than tensors: image_encoder.pos_embed"),
        ([torch.zeros(1)], "holds a list, not tensors by name"),
        (b"no archive at all", "damaged or holds more than plain tensors"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(content, sentence, nano_config, tmp_path):
    path = tmp_path / "sam.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=sentence):
        import_parents(tmp_path / "out", nano_config, sam=path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sam=x.pth"], "out is required"),
        (["out=there", "preset=nano"], "no parent is given"),
        (["out=there", "sam=nothing.pth", "preset=nano"], "'nothing.pth' does not exist"),
        (["out=there", "sam=x.pth", "preset=huge"], "no model preset is called 'huge'"),
        (["out=there", "smam=x.pth"], "'smam=x.pth' is not understood"),
        (["out=there", "dtype=int8"], "dtype=int8"),
        (["out=there", "seed=-1"], "seed=-1"),
    ],
)
def test_a_wrong_command_is_refused_in_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sam_in_the_hf_layout_computes_the_same(nano_config, tmp_path):
    sam = pytest.importorskip("transformers.models.sam", reason="this transformers has no SAM")
    size = nano_config.sam
    parent = randomise(
        sam.SamVisionModel(
            sam.SamVisionConfig(
                hidden_size=size.hidden_size, num_hidden_layers=size.num_layers, num_attention_heads=size.num_heads,
                image_size=size.image_size, window_size=3, global_attn_indexes=list(size.global_attn_indexes),
                output_channels=size.out_channels, mlp_dim=4 * size.hidden_size,
                num_pos_feats=size.hidden_size // 2,
            )
        ),
        seed=1,
    )  # fmt: skip
    config = _with_window(nano_config, 3)
    save_file(parent.state_dict(), tmp_path / "sam.safetensors")
    import_parents(tmp_path / "out", config, sam=tmp_path / "sam.safetensors", dtype=torch.float32)
    ours = ocr.load(tmp_path / "out").eval().model.sam_model
    seen: list[Tensor] = []
    ours.neck.register_forward_hook(lambda module, arguments, output: seen.append(output))
    pixels = torch.randn(2, 3, size.image_size, size.image_size)
    with torch.no_grad():
        ours(pixels)
        expected = parent(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _with_window(config, side: int):
    return dataclasses.replace(config, sam=dataclasses.replace(config.sam, window_size=side))


def test_clip_in_the_hf_layout_computes_the_same(nano_config, tmp_path):
    clip = pytest.importorskip("transformers.models.clip", reason="this transformers has no CLIP")
    size = nano_config.clip
    parent = randomise(
        clip.CLIPModel(
            clip.CLIPConfig(
                text_config={
                    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                    "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1,
                },
                vision_config={
                    "hidden_size": size.hidden_size, "intermediate_size": 4 * size.hidden_size,
                    "num_hidden_layers": size.num_layers, "num_attention_heads": size.num_heads,
                    "image_size": size.image_size, "patch_size": size.patch_size,
                },
                projection_dim=16,
            )
        ),
        seed=2,
    )  # fmt: skip
    directory = tmp_path / "clip"
    directory.mkdir()
    positions = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    save_file(parent.state_dict() | positions, directory / "model.safetensors")
    report = import_parents(tmp_path / "out", nano_config, clip=directory, dtype=torch.float32)
    assert "a buffer that is counted" in report
    ours = ocr.load(tmp_path / "out").eval().model.vision_model
    pixels = torch.randn(2, 3, size.image_size, size.image_size)
    with torch.no_grad():
        # The parent makes its own patches; ours reads features, so it gets these patches as features.
        patches = F.conv2d(pixels, ours.embeddings.patch_embedding.weight, stride=size.patch_size)
        expected = parent.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
        got = ours(patches)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
