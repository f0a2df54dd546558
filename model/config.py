"""Every size of DeepSeek-OCR, read from and written to the released `config.json`.

What is special here:
- The released file is the interface: `DeepseekOCRConfig.from_dict` keeps what it read, and `to_dict` gives
  it back unchanged as long as no size was changed. Consumers (HF, vLLM, SGLang, llama.cpp) index some
  fields that look dead (`qk_rope_head_dim`, ...), so they are all written.
- What the released code hard-codes is read from extra keys, which are written only where they differ from
  the hard-coded value, so that the file of a full-size model stays exactly the released one.
- Presets: `nano` (a laptop, seconds), `small` (one GPU), `deepseek_ocr_3b` (the paper).
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

# Tokens of one view are (side / 64)²: 16 px patches, then a 16× (4 × 4) compressor (paper section 3.2.2).
PATCH_SIZE = 16
COMPRESSION = 4
TOKEN_SIZE = PATCH_SIZE * COMPRESSION


class ModelConfigError(ValueError):
    """A size or a combination of sizes that the architecture cannot have."""


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ModelConfigError(sentence)


def _require_whole_heads(part: str, hidden_size: int, num_heads: int) -> None:
    _require(
        hidden_size % num_heads == 0,
        f"{part}.hidden_size={hidden_size} is not a multiple of num_heads={num_heads}; change one.",
    )


@dataclass(frozen=True)
class SamConfig:
    """SAM ViT-B with its neck and the 16× compressor: together the paper's "vision tokenizer"."""

    image_size: int = 1024
    """Side in pixels for which the absolute and relative positions are stored; other sides interpolate."""
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    window_size: int = 14
    """Side of an attention window in patches."""
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend over the whole image instead of windows."""
    out_channels: int = 256
    """Channels of the neck."""
    downsample_channels: tuple[int, int] = (512, 1024)
    """Channels of the two stride-2 convolutions; the last one is the width handed to CLIP."""

    def __post_init__(self) -> None:
        _require_whole_heads("sam", self.hidden_size, self.num_heads)
        _require(
            self.image_size % TOKEN_SIZE == 0,
            f"sam.image_size={self.image_size} is not a multiple of {TOKEN_SIZE} px (patch 16 × compressor 4).",
        )
        _require(
            all(0 <= index < self.num_layers for index in self.global_attn_indexes),
            f"sam.global_attn_indexes={list(self.global_attn_indexes)} names a block outside 0..{self.num_layers - 1}.",
        )

    @property
    def grid_size(self) -> int:
        return self.image_size // PATCH_SIZE


@dataclass(frozen=True)
class ClipConfig:
    """CLIP-L/14 without its patch embedding: it reads the vision tokenizer's features instead."""

    hidden_size: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    image_size: int = 224
    patch_size: int = 14

    def __post_init__(self) -> None:
        _require_whole_heads("clip", self.hidden_size, self.num_heads)

    @property
    def grid_size(self) -> int:
        """Side of the stored position grid; other grids interpolate it."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class DecoderConfig:
    """DeepSeek-3B-MoE: plain multi-head attention (not MLA), first layer dense, the others mixtures of experts."""

    vocab_size: int = 129280
    hidden_size: int = 1280
    num_hidden_layers: int = 12
    num_attention_heads: int = 10
    intermediate_size: int = 6848
    """Width of the dense feed-forward of the first `first_k_dense_replace` layers."""
    first_k_dense_replace: int = 1
    moe_intermediate_size: int = 896
    n_routed_experts: int = 64
    n_shared_experts: int = 2
    num_experts_per_tok: int = 6
    max_position_embeddings: int = 8192
    bos_token_id: int = 0
    eos_token_id: int = 1
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    norm_topk_prob: bool = False
    """Renormalise the weights of the chosen experts; the released model does not."""
    routed_scaling_factor: float = 1.0
    aux_loss_alpha: float = 0.001
    """Weight of the balance loss. It reaches the model through its gradient only (see `model.moe`)."""
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}.",
        )
        _require(
            self.head_dim % 2 == 0,
            f"head width {self.head_dim} (hidden_size / num_attention_heads) must be even for rotary positions.",
        )
        _require(
            self.num_experts_per_tok <= self.n_routed_experts,
            f"num_experts_per_tok={self.num_experts_per_tok} is more than n_routed_experts={self.n_routed_experts}.",
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def is_dense(self, layer_index: int) -> bool:
        return layer_index < self.first_k_dense_replace


# Read from `language_config` when present, written only when they differ from the consumers' defaults.
_DECODER_DEFAULTS_NOT_IN_FILE = {
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "aux_loss_alpha": 0.001,
    "initializer_range": 0.02,
}
_DECODER_IN_FILE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "first_k_dense_replace", "moe_intermediate_size", "n_routed_experts", "n_shared_experts",
    "num_experts_per_tok", "max_position_embeddings", "bos_token_id", "eos_token_id",
)  # fmt: skip
RELEASED_IMAGE_TOKEN_ID = 128815


@dataclass(frozen=True)
class DeepseekOCRConfig:
    """All sizes of one model. `projector` maps CLIP ⊕ SAM features to the decoder's width."""

    sam: SamConfig = field(default_factory=SamConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    language: DecoderConfig = field(default_factory=DecoderConfig)
    image_token_id: int = RELEASED_IMAGE_TOKEN_ID
    """Id of `<image>`, the placeholder of one vision token (row ends and the separator included)."""
    source: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """The `config.json` that this was read from; unknown keys survive a round trip through it."""

    def __post_init__(self) -> None:
        _require(
            self.sam.downsample_channels[-1] == self.clip.hidden_size,
            f"the compressor ends in {self.sam.downsample_channels[-1]} channels but CLIP is "
            f"{self.clip.hidden_size} wide; make downsample_channels[-1] equal to clip.hidden_size.",
        )
        _require(
            0 <= self.image_token_id < self.language.vocab_size,
            f"image_token_id={self.image_token_id} lies outside the vocabulary of {self.language.vocab_size}.",
        )

    @property
    def projector_input(self) -> int:
        return self.clip.hidden_size + self.sam.downsample_channels[-1]

    @classmethod
    def preset(cls, name: str) -> DeepseekOCRConfig:
        """A config by name: `nano`, `small` or `deepseek_ocr_3b`."""
        if name not in PRESETS:
            raise ModelConfigError(f"no model preset is called '{name}'; choose one of {', '.join(PRESETS)}.")
        return PRESETS[name]

    def with_vocabulary(self, vocab_size: int, image_token_id: int) -> DeepseekOCRConfig:
        """The same model for another tokenizer."""
        language = dataclasses.replace(self.language, vocab_size=vocab_size)
        return dataclasses.replace(self, language=language, image_token_id=image_token_id)

    @classmethod
    def from_dict(cls, source: dict[str, Any]) -> DeepseekOCRConfig:
        """Read a `config.json` in the released layout.

        Raises:
            ModelConfigError: a part is missing, asks for something this architecture is not, or does not fit.
        """
        for part in ("language_config", "vision_config", "projector_config"):
            _require(
                isinstance(source.get(part), dict),
                f"config.json has no '{part}'; it is not a DeepSeek-OCR checkpoint in the released layout.",
            )
        language = source["language_config"]
        _require(
            not language.get("use_mla", False),
            "language_config.use_mla is true; DeepSeek-OCR's decoder is plain multi-head attention.",
        )
        missing = [name for name in _DECODER_IN_FILE if name not in language]
        _require(not missing, f"language_config lacks {', '.join(missing)}.")
        kv_heads = language.get("num_key_value_heads", language["num_attention_heads"])
        _require(
            kv_heads == language["num_attention_heads"],
            f"language_config.num_key_value_heads={kv_heads} differs from num_attention_heads="
            f"{language['num_attention_heads']}; grouped key-value heads are not part of this architecture.",
        )
        decoder = {name: language[name] for name in _DECODER_IN_FILE}
        decoder |= {name: language.get(name, value) for name, value in _DECODER_DEFAULTS_NOT_IN_FILE.items()}
        vision = source["vision_config"]
        try:
            sam_width, clip_width = vision["width"]["sam_vit_b"], vision["width"]["clip-l-14-224"]
            sam = SamConfig(
                image_size=vision["image_size"],
                hidden_size=sam_width["width"],
                num_layers=sam_width["layers"],
                num_heads=sam_width["heads"],
                global_attn_indexes=tuple(sam_width["global_attn_indexes"]),
                downsample_channels=tuple(sam_width["downsample_channels"]),
                **_extra(SamConfig, sam_width, ("mlp_ratio", "window_size", "out_channels")),
            )
            clip = ClipConfig(
                hidden_size=clip_width["width"],
                num_layers=clip_width["layers"],
                num_heads=clip_width["heads"],
                image_size=clip_width["image_size"],
                patch_size=clip_width["patch_size"],
                **_extra(ClipConfig, clip_width, ("mlp_ratio",)),
            )
        except (KeyError, TypeError) as error:
            raise ModelConfigError(f"vision_config of config.json lacks {error}.") from error
        config = cls(
            sam=sam,
            clip=clip,
            language=DecoderConfig(**decoder),
            image_token_id=source.get("image_token_id", RELEASED_IMAGE_TOKEN_ID),
            source=copy.deepcopy(source),
        )
        projector = source["projector_config"]
        widths = (projector.get("input_dim"), projector.get("n_embed"))
        _require(
            widths == (config.projector_input, config.language.hidden_size),
            f"projector_config maps {widths[0]} to {widths[1]}, but encoder and decoder need "
            f"{config.projector_input} to {config.language.hidden_size}.",
        )
        return config

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` of this model in the released layout."""
        written = _released_layout(self)
        if self.source is None:
            return written
        return _update(copy.deepcopy(self.source), written)


def _extra(schema: type, values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    defaults = {f.name: f.default for f in dataclasses.fields(schema)}
    return {name: values.get(name, defaults[name]) for name in names}


def _update(source: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Write `values` over `source`, in place of what it says and beside what only it says."""
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(source.get(key), dict):
            _update(source[key], value)
        elif key in source or key not in _OPTIONAL_IN_SOURCE:
            source[key] = value
    return source


# Written for a fresh model, but not added to a file that was read without them.
_OPTIONAL_IN_SOURCE = {"auto_map", "transformers_version", "torch_dtype", "num_key_value_heads"}


def _released_layout(config: DeepseekOCRConfig) -> dict[str, Any]:
    decoder = config.language
    language: dict[str, Any] = {name: getattr(decoder, name) for name in _DECODER_IN_FILE}
    language |= {
        "kv_lora_rank": None,
        "lm_head": True,
        "n_group": 1,
        "num_key_value_heads": decoder.num_attention_heads,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": "bfloat16",
        "use_mla": False,
        "v_head_dim": 0,
    }
    for name, default in _DECODER_DEFAULTS_NOT_IN_FILE.items():
        if getattr(decoder, name) != default:
            language[name] = getattr(decoder, name)
    sam, clip = config.sam, config.clip
    sam_width: dict[str, Any] = {
        "downsample_channels": list(sam.downsample_channels),
        "global_attn_indexes": list(sam.global_attn_indexes),
        "heads": sam.num_heads,
        "layers": sam.num_layers,
        "width": sam.hidden_size,
    }
    clip_width: dict[str, Any] = {
        "heads": clip.num_heads,
        "image_size": clip.image_size,
        "layers": clip.num_layers,
        "patch_size": clip.patch_size,
        "width": clip.hidden_size,
    }
    for part, target, names in (
        (sam, sam_width, ("mlp_ratio", "window_size", "out_channels")),
        (clip, clip_width, ("mlp_ratio",)),
    ):
        for name, default in _extra(type(part), {}, names).items():
            if getattr(part, name) != default:
                target[name] = getattr(part, name)
    written: dict[str, Any] = {
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig",
            "AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM",
        },
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "language_config": {"architectures": ["DeepseekV2ForCausalLM"], **language},
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": config.projector_input,
            "model_type": "mlp_projector",
            "n_embed": decoder.hidden_size,
            "projector_type": "linear",
        },
        "tile_tag": "2D",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.3",
        "vision_config": {
            "image_size": sam.image_size,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "width": {"clip-l-14-224": clip_width, "sam_vit_b": sam_width},
        },
    }
    written |= {key: value for key, value in language.items() if key not in written}
    if config.image_token_id != RELEASED_IMAGE_TOKEN_ID:
        written["image_token_id"] = config.image_token_id
    return written


PRESETS: dict[str, DeepseekOCRConfig] = {
    "nano": DeepseekOCRConfig(
        sam=SamConfig(
            image_size=128, hidden_size=64, num_layers=3, num_heads=2, window_size=4,
            global_attn_indexes=(2,), out_channels=64, downsample_channels=(96, 128),
        ),
        clip=ClipConfig(hidden_size=128, num_layers=3, num_heads=4, image_size=28, patch_size=14),
        language=DecoderConfig(
            vocab_size=512, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384,
            moe_intermediate_size=96, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
            max_position_embeddings=1024, initializer_range=0.09,
        ),
        image_token_id=3,
    ),
    "small": DeepseekOCRConfig(
        sam=SamConfig(
            image_size=640, hidden_size=384, num_layers=8, num_heads=6, window_size=10,
            global_attn_indexes=(1, 3, 5, 7), downsample_channels=(256, 512),
        ),
        clip=ClipConfig(hidden_size=512, num_layers=8, num_heads=8, image_size=140),
        language=DecoderConfig(
            hidden_size=512, num_hidden_layers=8, num_attention_heads=8, intermediate_size=2048,
            moe_intermediate_size=256, n_routed_experts=32, num_experts_per_tok=4, initializer_range=0.04,
        ),
    ),
    "deepseek_ocr_3b": DeepseekOCRConfig(),
}  # fmt: skip
