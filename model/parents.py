"""From the parents to a model to train: SAM ViT-B, CLIP-L/14 and a DeepSeek mixture-of-experts decoder.

What is special here:
- A layout is a table: how its names become ours, and what is left out and why. Nothing is skipped in silence: a
  tensor is loaded, or dropped by a rule that says why, or the import stops and names it.
- What no parent gives (compressor, projector, newline, separator) starts at random, and the report says so.
- Any of the three parents may be missing; its part starts at random then.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import DecoderConfig, DeepseekOCRConfig
from .convert import all_released_tensors, new_directory, released_shapes, write_checkpoint
from .deepseek_ocr import DeepseekOCR
from .tensor_files import CheckpointError, TensorSource
from .tokenizer import IMAGE

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class ParentLayout:
    """One way in which a parent's tensors are named."""

    name: str
    marker: str
    """A tensor of this name is in every file of the layout, and in no other layout."""
    renames: tuple[tuple[str, str], ...]
    """(pattern of the whole name, name here). `@0`, `@1`, `@2` at the end mean that third of the rows."""
    dropped: tuple[tuple[str, str], ...]
    """(pattern of the whole name, why it is left out)"""

    def target(self, name: str) -> str | None:
        for pattern, replacement in self.renames:
            if match := re.fullmatch(pattern, name):
                return match.expand(replacement)
        return None

    def reason(self, name: str) -> str | None:
        return next((reason for pattern, reason in self.dropped if re.fullmatch(pattern, name)), None)


@dataclass(frozen=True)
class ParentPart:
    """The part of our model that one parent fills."""

    key: str
    fills: str
    """Pattern of our names."""
    not_given: str
    """Pattern of those among them that the parent need not have."""
    layouts: tuple[ParentLayout, ...]


_SAM_DROPPED = (
    (r"prompt_encoder\..+|shared_image_embedding\..+", "SAM's prompt encoder: there are no prompts in OCR"),
    (r"mask_decoder\..+", "SAM's mask decoder: no masks are predicted"),
    (r"pixel_(mean|std)", "SAM's pixel statistics: pixels are normalised with 0.5"),
)
_CLIP_HERE = "model.vision_model"

SAM = ParentPart(
    key="sam",
    fills=r"model\.sam_model\..+",
    not_given=r"model\.sam_model\.net_[23]\.weight",
    layouts=(
        ParentLayout(
            name="sam_vit_b as published",
            marker=r"image_encoder\.pos_embed",
            renames=((r"image_encoder\.(.+)", r"model.sam_model.\1"),),
            dropped=_SAM_DROPPED,
        ),
        ParentLayout(
            name="SAM in the HF layout",
            marker=r"vision_encoder\.pos_embed",
            renames=(
                (r"vision_encoder\.pos_embed", r"model.sam_model.pos_embed"),
                (r"vision_encoder\.patch_embed\.projection\.(.+)", r"model.sam_model.patch_embed.proj.\1"),
                (r"vision_encoder\.layers\.(\d+)\.layer_norm(.+)", r"model.sam_model.blocks.\1.norm\2"),
                (r"vision_encoder\.layers\.(.+)", r"model.sam_model.blocks.\1"),
                (r"vision_encoder\.neck\.conv1\.(.+)", r"model.sam_model.neck.0.\1"),
                (r"vision_encoder\.neck\.layer_norm1\.(.+)", r"model.sam_model.neck.1.\1"),
                (r"vision_encoder\.neck\.conv2\.(.+)", r"model.sam_model.neck.2.\1"),
                (r"vision_encoder\.neck\.layer_norm2\.(.+)", r"model.sam_model.neck.3.\1"),
            ),
            dropped=_SAM_DROPPED,
        ),
    ),
)

_TEXT_TOWER = "CLIP's text tower: the decoder reads and writes the text"
_AFTER_ENCODER = "belongs to CLIP's pooled output; here every token goes to the projector"

CLIP = ParentPart(
    key="clip",
    fills=r"model\.vision_model\..+",
    not_given=r"(?!)",
    layouts=(
        ParentLayout(
            name="CLIP in the HF layout",
            marker=r"vision_model\.embeddings\.class_embedding",
            renames=(
                (r"vision_model\.(embeddings\.(?!position_ids).+)", rf"{_CLIP_HERE}.\1"),
                (r"vision_model\.(pre_layrnorm\..+)", rf"{_CLIP_HERE}.\1"),
                *(
                    (
                        rf"vision_model\.encoder\.(layers\.\d+\.self_attn\.){letter}_proj\.(.+)",
                        rf"{_CLIP_HERE}.transformer.\1qkv_proj.\2@{third}",
                    )
                    for third, letter in enumerate("qkv")
                ),
                (r"vision_model\.encoder\.(layers\..+)", rf"{_CLIP_HERE}.transformer.\1"),
            ),
            dropped=(
                (r"text_model\..+|text_projection\.weight", _TEXT_TOWER),
                (r"logit_scale", "CLIP's contrastive loss is not used"),
                (r"vision_model\.post_layernorm\..+|visual_projection\.weight", _AFTER_ENCODER),
                (r"vision_model\.embeddings\.position_ids", "a buffer that is counted, not learned"),
            ),
        ),
        ParentLayout(
            name="CLIP in the OpenAI layout",
            marker=r"visual\.class_embedding",
            renames=(
                (r"visual\.class_embedding", rf"{_CLIP_HERE}.embeddings.class_embedding"),
                (r"visual\.positional_embedding", rf"{_CLIP_HERE}.embeddings.position_embedding.weight"),
                (r"visual\.conv1\.weight", rf"{_CLIP_HERE}.embeddings.patch_embedding.weight"),
                (r"visual\.ln_pre\.(.+)", rf"{_CLIP_HERE}.pre_layrnorm.\1"),
                *(
                    (
                        rf"visual\.transformer\.resblocks\.(\d+)\.{theirs}(.+)",
                        rf"{_CLIP_HERE}.transformer.layers.\1.{ours}\2",
                    )
                    for theirs, ours in (
                        (r"ln_", "layer_norm"),
                        (r"attn\.in_proj_", "self_attn.qkv_proj."),
                        (r"attn\.out_proj\.", "self_attn.out_proj."),
                        (r"mlp\.c_fc\.", "mlp.fc1."),
                        (r"mlp\.c_proj\.", "mlp.fc2."),
                    )
                ),
            ),
            dropped=(
                (r"transformer\..+|token_embedding\.weight|positional_embedding", _TEXT_TOWER),
                (r"ln_final\..+|text_projection", _TEXT_TOWER),
                (r"logit_scale", "CLIP's contrastive loss is not used"),
                (r"visual\.(ln_post\..+|proj)", _AFTER_ENCODER),
                (r"input_resolution|context_length|vocab_size", "a setting, not a weight"),
            ),
        ),
    ),
)

_OTHER_ENCODER = "belongs to another vision encoder, which the DeepEncoder replaces"

LANGUAGE = ParentPart(
    key="language",
    fills=r"model\.(embed_tokens|layers|norm)\..+|lm_head\.weight",
    not_given=r"(?!)",
    layouts=(
        ParentLayout(
            # With `language.` in front it is the decoder inside a DeepSeek-VL2 checkpoint.
            name="a DeepSeek decoder in the HF layout",
            marker=r"(language\.)?model\.embed_tokens\.weight",
            renames=((r"(?:language\.)?(model\.(?:embed_tokens|layers|norm)\..+|lm_head\.weight)", r"\1"),),
            dropped=(
                (r"(vision|projector|model\.(sam_model|vision_model|projector))\..+", _OTHER_ENCODER),
                (r"(model\.)?(image_newline|view_seperator|tile_indicators)", _OTHER_ENCODER),
            ),
        ),
    ),
)
PARTS = (SAM, CLIP, LANGUAGE)


def import_parents(
    out: str | os.PathLike,
    config: DeepseekOCRConfig,
    sam: str | os.PathLike | None = None,
    clip: str | os.PathLike | None = None,
    language: str | os.PathLike | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
) -> str:
    """Write a checkpoint in the released layout with the weights of the parents; returns the report.

    Args:
        out: a directory that does not exist yet.
        config: sizes; the vocabulary follows the language parent.
        sam, clip, language: files or directories.
        seed: of what starts at random.

    Raises:
        CheckpointError: no parent is given, `out` exists, or a parent cannot be read, lacks a tensor, has one that
            has no place or the wrong shape, or was made with other settings. Nothing is written then.
    """
    places = {"sam": sam, "clip": clip, "language": language}
    given = [(part, places[part.key]) for part in PARTS if places[part.key]]
    if not given:
        raise CheckpointError("no parent is given; name at least one of sam, clip and language.")
    if Path(out).exists():
        raise CheckpointError(f"out={out} exists; choose another directory or remove it first.")
    sources = [(part, TensorSource(place)) for part, place in given if place]
    if language:
        config = _with_parents_vocabulary(config, Path(language), sources[-1][1])
        _check_settings(config.language, Path(language))
    wanted = released_shapes(config)
    plans = [_plan(part, source, wanted) for part, source in sources]
    model = _random_model(config, seed, dtype)
    tensors = all_released_tensors(model.named_parameters())
    lines, filled = [], set()
    for (part, source), plan in zip(sources, plans, strict=True):
        for name, value in source.read(plan.loaded):
            _place(tensors, plan.loaded[name]).copy_(value)
        filled |= {target.partition("@")[0] for target in plan.loaded.values()}
        lines.append(f"{part.key}: {len(plan.loaded)} tensors from {source.place} ({plan.layout})")
        lines += [f"  dropped {count}: {reason}" for reason, count in plan.dropped.items()]
    fresh = Counter(_root(name) for name in tensors if name not in filled)
    lines.append(f"random (seed {seed}): " + ", ".join(f"{name} ({n})" for name, n in fresh.items()))
    with new_directory(out) as made:
        write_checkpoint(model, made, dtype)
        lines.append(_copy_tokenizer(Path(language) if language else None, made, Path(out), config))
    return "\n".join(lines)


@dataclass(frozen=True)
class _Plan:
    layout: str
    loaded: dict[str, str]
    """Name in the source -> ours."""
    dropped: Counter[str]
    """Reason -> number of tensors."""


def _plan(part: ParentPart, source: TensorSource, wanted: dict[str, tuple[int, ...]]) -> _Plan:
    """Account for every tensor of the source and every one that the part needs."""
    layout = next(
        (x for x in part.layouts if any(re.fullmatch(x.marker, name) for name in source.shapes)), None
    )
    if layout is None:
        raise CheckpointError(
            f"{part.key}={source.place} is in no known layout ({'; '.join(x.name for x in part.layouts)}); "
            f"its tensors are {', '.join(list(source.shapes)[:5])}, …"
        )
    needed = {name: shape for name, shape in wanted.items() if re.fullmatch(part.fills, name)}
    loaded: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    problems: list[str] = []
    covered: set[str] = set()
    for name, shape in source.shapes.items():
        target = layout.target(name)
        base, _, third = (target or "").partition("@")
        if base not in needed:
            if reason := layout.reason(name):
                dropped[reason] += 1
            else:
                problems.append(f"{name} has no place")
            continue
        size = needed[base]
        size = (size[0] // 3, *size[1:]) if third else size
        if shape != size:
            problems.append(f"{name} is {list(shape)} instead of {list(size)}")
        loaded[name] = str(target)
        covered |= {str(target)} if third else {base, f"{base}@0", f"{base}@1", f"{base}@2"}
    for name in needed:
        whole = name in covered or {f"{name}@0", f"{name}@1", f"{name}@2"} <= covered
        if not whole and not re.fullmatch(part.not_given, name):
            problems.append(f"nothing for {name}")
    if problems:
        raise CheckpointError(
            f"{part.key}={source.place} ({layout.name}) does not fit in {len(problems)} tensors: "
            f"{'; '.join(problems[:10])}{'; …' if len(problems) > 10 else ''}."
        )
    return _Plan(layout.name, loaded, dropped)


def _place(tensors: dict[str, Tensor], target: str) -> Tensor:
    name, _, third = target.partition("@")
    return tensors[name].chunk(3)[int(third)] if third else tensors[name]


def _random_model(config: DeepseekOCRConfig, seed: int, dtype: torch.dtype) -> DeepseekOCR:
    """In the target dtype from the start: the full-size model in fp32 would take twice the memory."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return DeepseekOCR(config).initialise(seed)
    finally:
        torch.set_default_dtype(usual)


def _root(name: str) -> str:
    """`model.layers.0.mlp.gate.weight` -> `model.layers`, `model.sam_model.net_2.weight` -> `model.sam_model.net_2`."""
    parts = name.split(".")
    return ".".join(parts[: 3 if parts[1] == "sam_model" else 2])


def _with_parents_vocabulary(
    config: DeepseekOCRConfig, directory: Path, source: TensorSource
) -> DeepseekOCRConfig:
    rows = next(
        (shape[0] for name, shape in source.shapes.items() if name.endswith("embed_tokens.weight")), 0
    )
    image_id = _image_token_id(directory)
    if rows == 0 or (rows == config.language.vocab_size and image_id is None):
        return config
    return config.with_vocabulary(rows, config.image_token_id if image_id is None else image_id)


def _image_token_id(directory: Path) -> int | None:
    """Id of `<image>` in the tokenizer beside the weights; None without one."""
    tokens = _read_json(directory / "tokenizer.json").get("added_tokens", [])
    return next((token["id"] for token in tokens if token.get("content") == IMAGE), None)


# What the shapes of the weights cannot tell.
_SETTINGS = (
    "num_attention_heads", "num_experts_per_tok", "rope_theta", "rms_norm_eps", "norm_topk_prob",
    "routed_scaling_factor",
)  # fmt: skip
_FIXED: dict[str, Any] = {
    "use_mla": False, "hidden_act": "silu", "scoring_func": "softmax", "topk_method": "greedy",
    "attention_bias": False, "rope_scaling": None, "moe_layer_freq": 1,
}  # fmt: skip


def _check_settings(config: DecoderConfig, directory: Path) -> None:
    found = _read_json(directory / "config.json")
    found = found.get("language_config", found)
    wanted = {name: getattr(config, name) for name in _SETTINGS} | _FIXED
    wanted["num_key_value_heads"] = config.num_attention_heads
    differ = [
        f"{name} is {found[name]} there and {value} here"
        for name, value in wanted.items()
        if name in found and found[name] != value
    ]
    if differ:
        raise CheckpointError(
            f"language={directory} was trained with other settings: {'; '.join(differ)}. "
            "Choose the preset that it was made for."
        )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}.") from error
    return content if isinstance(content, dict) else {}


def _copy_tokenizer(language: Path | None, directory: Path, out: Path, config: DeepseekOCRConfig) -> str:
    copied = []
    for name in TOKENIZER_FILES:
        if language is not None and (language / name).is_file():
            shutil.copyfile(language / name, directory / name)
            copied.append(name)
    if "tokenizer.json" not in copied:
        return f"tokenizer: none; put a tokenizer.json with {IMAGE} = {config.image_token_id} into {out}"
    if _image_token_id(directory) is None:
        return f"tokenizer: copied, but it has no {IMAGE}; training and reading need it at {config.image_token_id}"
    return f"tokenizer: copied, {IMAGE} = {config.image_token_id}"
