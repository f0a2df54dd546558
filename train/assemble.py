"""From the configuration to the list of layers: which model, at which sizes, what is frozen, how it starts.

What is special here:
- A layer is described without being built, so that each process builds only its own stage, and the stage table
  of the full-size model needs no memory (parameters are counted on the meta device).
- Random initialisation is seeded per layer: the weights are the same however the model is cut.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn as nn

from data_engine.errors import ConfigError
from model.clip import ClipEncoder
from model.config import ClipConfig, DeepseekOCRConfig, ModelConfigError, SamConfig
from model.decoder import DecoderLayer, RmsNorm, initialise_language
from model.deepencoder import Projector, initialise_encoder
from model.deepseek_ocr import initialise_ends
from model.freeze import is_below
from model.meta import shapes_only
from model.sam import SamVisionTokenizer
from train.config import ModelChoice, TrainConfig, require
from train.cut import LayerInfo
from train.lora import add_adapters
from train.pipeline_layers import (
    DecoderLayerStage,
    EmbeddingStage,
    GlobalEncoderStage,
    HeadStage,
    LayoutCache,
    StageLayer,
    VisionTokenizerStage,
)
from train.planning.costs import CompactSizes, CostModel
from train.planning.load import assumed_load
from train.recompute import (
    check_compiler,
    compile_blocks,
    named_blocks,
    recompute_blocks,
    recomputes,
)

if TYPE_CHECKING:
    from transformers import OPTForCausalLM


@dataclass(frozen=True)
class PipelineLayer:
    """One layer: what the cut needs to know of it, and how to build it in the process that holds it."""

    info: LayerInfo
    build: Callable[[], StageLayer]
    shapes: dict[str, tuple[int, ...]]
    """Shape of every parameter under its checkpoint name."""


def model_config(choice: ModelChoice, vocab_size: int, image_token_id: int) -> DeepseekOCRConfig:
    """Sizes of the model for a tokenizer.

    Raises:
        ConfigError: unknown preset, no config.json, or a tokenizer that does not fit the model.
    """
    try:
        if choice.directory:
            path = Path(choice.directory) / "config.json"
            require(path.is_file(), f"model.directory={choice.directory} holds no config.json.")
            config = DeepseekOCRConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
            require(
                vocab_size <= config.language.vocab_size and image_token_id == config.image_token_id,
                f"the tokenizer has {vocab_size} tokens with <image> = {image_token_id}, but {path} is made for "
                f"{config.language.vocab_size} tokens with <image> = {config.image_token_id}; use its tokenizer.",
            )
        else:
            config = DeepseekOCRConfig.preset(choice.preset).with_vocabulary(vocab_size, image_token_id)
    except (ModelConfigError, json.JSONDecodeError) as error:
        raise ConfigError(f"model: {error}") from error
    if choice.balance_loss >= 0:
        language = dataclasses.replace(config.language, aux_loss_alpha=choice.balance_loss)
        config = dataclasses.replace(config, language=language)
    return config


def assemble(config: TrainConfig, model: DeepseekOCRConfig, data_parallel_size: int) -> list[PipelineLayer]:
    """All layers of the run's model, in order, with what `freeze` names frozen.

    Raises:
        ConfigError: a prefix in the configuration names nothing of this model, nothing is left to train, or a compiler
            or peft is needed and absent.
    """
    if config.compile:
        check_compiler()
    parts = _stage_1 if config.model.architecture == "encoder_lm" else _stage_2
    layers = []
    blocks: list[str] = []
    flows = False  # whether a gradient has any reason to come back through the output of a layer
    for number, part in enumerate(parts(config, model, data_parallel_size)):
        with shapes_only():
            counted = part.construct(False)
        if config.lora.rank:
            with shapes_only():
                add_adapters(counted, config.lora, None)
        _freeze(counted, config.freeze)
        blocks += [name for name, _ in named_blocks(counted)]
        shapes = {name: tuple(p.shape) for name, p in counted.named_checkpoint_parameters()}
        trainable = sum(p.numel() for p in counted.parameters() if p.requires_grad)
        flows = flows or trainable > 0
        info = LayerInfo(
            name=part.name,
            kind=part.kind,
            parameters=sum(p.numel() for p in counted.parameters()),
            trainable=trainable,
            recomputed=recomputes(counted, config.checkpoint_activations),
        )
        layers.append(PipelineLayer(info, _builder(config, part, number, not flows), shapes))
    require(flows, f"freeze={config.freeze} leaves nothing to train.")
    _check_prefixes(config, [name for layer in layers for name in layer.shapes], blocks)
    infos = cost_model(config, model).costed([layer.info for layer in layers], assumed_load(config))
    return [dataclasses.replace(layer, info=info) for layer, info in zip(layers, infos, strict=True)]


def cost_model(config: TrainConfig, model: DeepseekOCRConfig) -> CostModel:
    """What the layers of this run cost under any load."""
    compact = None
    if config.model.architecture == "encoder_lm":
        opt = _counted_compact(config, model).config
        compact = CompactSizes(
            opt.hidden_size, opt.num_hidden_layers, opt.ffn_dim, opt.num_attention_heads, opt.vocab_size
        )
    return CostModel(model, 2 if config.precision == "bf16" else 4, compact)


@dataclass(frozen=True)
class _Part:
    """One layer of a model: its place in the table, its modules, and how its parameters start."""

    name: str
    kind: str
    construct: Callable[[bool], StageLayer]
    """The modules; the argument says whether the output travels bit-cast."""
    initialise: Callable[[Any, torch.Generator], None]


def _builder(config: TrainConfig, part: _Part, number: int, bit_cast: bool) -> Callable[[], StageLayer]:
    def build() -> StageLayer:
        layer = part.construct(bit_cast)
        generator = torch.Generator().manual_seed(_seed(config.seed, number))
        part.initialise(layer, generator)
        if config.lora.rank:
            add_adapters(layer, config.lora, generator)
        _freeze(layer, config.freeze)
        if config.compile:
            compile_blocks(layer)
        recompute_blocks(layer, config.checkpoint_activations)
        return layer

    return build


def _check_prefixes(config: TrainConfig, names: Sequence[str], blocks: Sequence[str]) -> None:
    """Every prefix names something, and a part with a learning rate of its own learns."""
    rates = config.optimizer.part_learning_rates
    for key, prefixes, what, known in (
        ("freeze", config.freeze, "parameter", names),
        ("optimizer.part_learning_rates", rates, "parameter", names),
        ("checkpoint_activations", config.checkpoint_activations, "block", blocks),
    ):
        for prefix in prefixes:
            require(
                any(is_below(name, [prefix]) for name in known),
                f"{key} names '{prefix}', but no {what} of {config.model.architecture} begins so; possible: "
                f"{', '.join(sorted({'.'.join(name.split('.')[:2]) for name in known}))}.",
            )
    for prefix in rates:
        require(
            not all(is_below(name, config.freeze) for name in names if is_below(name, [prefix])),
            f"optimizer.part_learning_rates gives '{prefix}' a rate, but freeze={config.freeze} freezes all of it; "
            "take it out of one of them.",
        )


def _freeze(layer: StageLayer, prefixes: Sequence[str]) -> None:
    for name, parameter in layer.named_checkpoint_parameters():
        if is_below(name, prefixes):
            parameter.requires_grad_(False)


def _encoder(config: TrainConfig, model: DeepseekOCRConfig, hidden_size: int) -> list[_Part]:
    """The two layers that both training stages begin with."""
    budget = config.sequence.vision_tokens
    # The initialiser wants both halves of the encoder; a stage has one, and gives the smallest possible other.
    sam = SamConfig(
        image_size=64, hidden_size=8, num_layers=0, num_heads=1, global_attn_indexes=(), out_channels=8,
        downsample_channels=(8, 8),
    )  # fmt: skip
    clip = ClipConfig(hidden_size=8, num_layers=0, num_heads=1, image_size=28)

    def vision_tokenizer(bit_cast: bool) -> StageLayer:
        return VisionTokenizerStage(SamVisionTokenizer(model.sam), budget, bit_cast)

    def start_vision_tokenizer(stage: VisionTokenizerStage, generator: torch.Generator) -> None:
        initialise_encoder(stage.sam_model, ClipEncoder(clip), generator)

    def global_encoder(bit_cast: bool) -> StageLayer:
        projector = Projector(model.projector_input, hidden_size)
        return GlobalEncoderStage(ClipEncoder(model.clip), projector, budget, bit_cast)

    def start_global_encoder(stage: GlobalEncoderStage, generator: torch.Generator) -> None:
        initialise_encoder(SamVisionTokenizer(sam), stage.vision_model, generator)
        initialise_language(stage.projector, model.language, generator)
        initialise_ends(stage.image_newline, stage.view_seperator, generator)

    return [
        _Part("vision tokenizer", "vision_tokenizer", vision_tokenizer, start_vision_tokenizer),
        _Part("global encoder", "global_encoder", global_encoder, start_global_encoder),
    ]


def _stage_1(config: TrainConfig, model: DeepseekOCRConfig, data_parallel_size: int) -> list[_Part]:
    # Here and not above: transformers takes seconds to import, and only this stage of the training needs it.
    from train.compact_stage import CompactLanguageModelStage

    def language_model(bit_cast: bool) -> StageLayer:
        compact = _compact(config, model)
        return CompactLanguageModelStage(compact, config.micro_batches, data_parallel_size)

    def keep(stage: StageLayer, generator: torch.Generator) -> None:
        """What transformers drew or read stays."""

    counted = _counted_compact(config, model)
    _check_length(config, counted.config.max_position_embeddings)
    return [
        *_encoder(config, model, counted.lm_head.in_features),
        _Part("compact language model", "language_model", language_model, keep),
    ]


def _compact(config: TrainConfig, model: DeepseekOCRConfig) -> OPTForCausalLM:
    from model.encoder_lm import compact_language_model

    with torch.random.fork_rng(devices=[]):  # transformers draws from the global generator
        torch.manual_seed(_seed(config.seed, 2))
        return compact_language_model(config.model.language_model, model.language.vocab_size)


def _counted_compact(config: TrainConfig, model: DeepseekOCRConfig) -> OPTForCausalLM:
    """The compact language model without memory, for its sizes."""
    try:
        with shapes_only():
            return _compact(config, model)
    except ModelConfigError as error:
        raise ConfigError(f"model.language_model: {error}") from error


def _stage_2(config: TrainConfig, model: DeepseekOCRConfig, data_parallel_size: int) -> list[_Part]:
    language = model.language
    _check_length(config, language.max_position_embeddings)
    layouts = LayoutCache(language)

    def embedding(bit_cast: bool) -> StageLayer:
        return EmbeddingStage(nn.Embedding(language.vocab_size, language.hidden_size))

    def decoder(index: int) -> Callable[[bool], StageLayer]:
        def construct(bit_cast: bool) -> StageLayer:
            stage = DecoderLayerStage(DecoderLayer(language, index), index, layouts)
            if stage.experts is not None:
                # The engine divides the loss by the micro-batches; the injected gradient must follow.
                stage.experts.balance_scale = 1.0 / config.micro_batches
            return stage

        return construct

    def head(bit_cast: bool) -> StageLayer:
        norm = RmsNorm(language.hidden_size, language.rms_norm_eps)
        lm_head = nn.Linear(language.hidden_size, language.vocab_size, bias=False)
        return HeadStage(norm, lm_head, config.micro_batches, data_parallel_size)

    def start(stage: StageLayer, generator: torch.Generator) -> None:
        initialise_language(stage, language, generator)

    return [
        *_encoder(config, model, language.hidden_size),
        _Part("embedding", "embedding", embedding, start),
        *(
            _Part(f"decoder {index}", "decoder", decoder(index), start)
            for index in range(language.num_hidden_layers)
        ),
        _Part("head", "head", head, start),
    ]


def _check_length(config: TrainConfig, positions: int) -> None:
    tokens = config.sequence.tokens
    require(
        tokens <= positions,
        f"sequence.tokens={tokens} is more than the {positions} positions of the language model; lower it.",
    )


def _seed(seed: int, number: int) -> int:
    return seed * 1_000_003 + number
