"""What every layer costs under an assumed load: FLOPs forward and backward, and bytes kept between the two."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from model.activations import (
    Activations,
    clip_activations,
    decoder_layer_activations,
    head_activations,
    projector_activations,
    sam_activations,
)
from model.config import DecoderConfig, DeepseekOCRConfig
from model.flops import (
    backward_flops,
    clip_flops,
    decoder_layer_flops,
    head_flops,
    head_training_flops,
    projector_flops,
    sam_flops,
)
from train.cut import LayerInfo
from train.planning.load import Load


@dataclass(frozen=True)
class CompactSizes:
    """Sizes of stage 1's language model (an OPT)."""

    hidden_size: int
    layers: int
    ffn: int
    heads: int
    vocabulary: int

    def as_decoder(self) -> DecoderConfig:
        """A dense decoder of these sizes, for the head, whose arithmetic is the same."""
        return DecoderConfig(
            vocab_size=self.vocabulary, hidden_size=self.hidden_size, num_attention_heads=self.heads
        )


@dataclass(frozen=True)
class CostModel:
    """Everything that costs depend on besides the load."""

    model: DeepseekOCRConfig
    value_bytes: int
    """Of an activation: 2 in bf16, 4 in fp32."""
    compact: CompactSizes | None = None

    def costed(self, layers: Sequence[LayerInfo], load: Load) -> list[LayerInfo]:
        """The same layers with their costs under this load."""
        result = []
        flows = False  # whether something before trains, so that a gradient comes out of a layer's input
        for layer in layers:
            trains = layer.trainable > 0
            forward = self._forward_flops(layer, load)
            if layer.kind == "head":
                forward, backward = head_training_flops(forward, trains, flows)
            else:
                backward = backward_flops(forward, trains, flows)
            flows = flows or trains
            kept = self._activations(layer, load) if flows else Activations()
            result.append(dataclasses.replace(layer, forward=forward, backward=backward, activations=kept))
        return result

    def _forward_flops(self, layer: LayerInfo, load: Load) -> float:
        model, language = self.model, self.model.language
        if layer.kind == "vision_tokenizer":
            return sum(views * sam_flops(model.sam, side) for side, views in load.views.items())
        if layer.kind == "global_encoder":
            hidden = self.compact.hidden_size if self.compact else language.hidden_size
            scale = hidden / language.hidden_size  # the projector ends in the width of its language model
            return sum(
                views * (clip_flops(model.clip, side) + scale * projector_flops(model, side))
                for side, views in load.views.items()
            )
        if layer.kind == "decoder":
            return decoder_layer_flops(language, _number(layer), load.segments)
        if layer.kind == "head":
            return head_flops(language, load.labelled)
        return self._compact_flops(load) if layer.kind == "language_model" else 0.0

    def _compact_flops(self, load: Load) -> float:
        sizes = self._compact_sizes()
        linear = 4 * sizes.hidden_size**2 + 2 * sizes.hidden_size * sizes.ffn
        pairs = sum(length * (length + 1) // 2 for length in load.segments)
        layer = 2 * load.tokens * linear + 4 * pairs * sizes.hidden_size
        return sizes.layers * layer + head_flops(sizes.as_decoder(), load.labelled)

    def _activations(self, layer: LayerInfo, load: Load) -> Activations:
        model, language, b = self.model, self.model.language, self.value_bytes
        kept = Activations()
        if layer.kind in ("vision_tokenizer", "global_encoder"):
            for side, views in load.views.items():
                if layer.kind == "vision_tokenizer":
                    kept += sam_activations(model.sam, side, views, b)
                else:
                    kept += clip_activations(model.clip, side, views, b)
                    kept += projector_activations(model.projector_input, side, views, b)
        elif layer.kind == "embedding":
            # Which rows were gathered (int64 twice) and from which of the two sources (bool).
            kept = Activations(17 * load.tokens, 17 * load.tokens)
        elif layer.kind == "decoder":
            kept = decoder_layer_activations(language, _number(layer), load.tokens, b, grouped=b == 2)
        elif layer.kind == "head":
            kept = head_activations(language, load.tokens, load.labelled, b)
        elif layer.kind == "language_model":
            kept = self._compact_activations(load)
        return kept

    def _compact_activations(self, load: Load) -> Activations:
        sizes, b = self._compact_sizes(), self.value_bytes
        # Two norms (input, output, statistics), query, key, value, output, one row of the mask, output of the ReLU.
        token = b * (2 * 2 * sizes.hidden_size + 4 * sizes.hidden_size + sizes.ffn + load.tokens)
        block = load.tokens * (token + 2 * 2 * 4 + 4 * sizes.heads)
        inputs = load.tokens * sizes.hidden_size * b
        layers = Activations(sizes.layers * block, sizes.layers * inputs, block)
        return layers + head_activations(sizes.as_decoder(), load.tokens, load.labelled, b)

    def _compact_sizes(self) -> CompactSizes:
        assert self.compact is not None, "a compact language model was assembled without its sizes"
        return self.compact


def _number(layer: LayerInfo) -> int:
    return int(layer.name.removeprefix("decoder "))
