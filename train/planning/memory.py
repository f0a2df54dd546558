"""Memory of one GPU, by kind, for every stage.

What is counted is what the engine holds (`train.deepspeed_engine`; held against a real one by
`tests/train/planning/test_memory.py`):
- bf16: weights in bf16, their gradient in bf16 and its sum over micro-batches in fp32, both whole; fp32 master weights
  and AdamW's two moments divided among the data-parallel replicas (ZeRO-1).
- fp32: weights and gradients whole; ZeRO-1 keeps its share of the weights a second time, with both moments, and copies
  gradients into a bucket to reduce them.
- activations: what autograd keeps, for as many micro-batches as 1F1B has in flight on the stage.
- wire: inputs and outputs of those micro-batches, and the buffers that messages are received in.
What a kernel needs only while it runs is not counted, except for the loss, whose chunk of logits is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise

from model.activations import head_working_bytes
from model.config import DecoderConfig
from train.config import SequenceShape
from train.cut import LayerInfo
from train.data.micro_batch import METADATA_ROWS, PATCH_BYTES
from train.planning.timeline import in_flight

GIB = 2**30
INT32 = 4
FP32 = 4
REDUCE_BUCKET = 50_000_000
"""Elements of ZeRO-1's gradient bucket (`train.deepspeed_engine.BUCKET_ELEMENTS`, which cannot be imported without
DeepSpeed; a test compares the two)."""


@dataclass(frozen=True)
class Widths:
    """What the messages between layers depend on."""

    sequence: SequenceShape
    features: int
    """Channels of the vision tokenizer."""
    hidden: int
    value_bytes: int

    def micro_batch(self) -> int:
        """Bytes that the first stage reads."""
        return self.sequence.patches * PATCH_BYTES + self._tiles() + self._metadata()

    def activations(self, kind: str) -> int:
        """Bytes of what a layer of this kind hands on that can have a gradient."""
        shape, b = self.sequence, self.value_bytes
        if kind == "vision_tokenizer":
            return shape.vision_tokens * self.features * b
        if kind == "global_encoder":
            return (shape.vision_tokens + 2) * self.hidden * b
        return shape.tokens * self.hidden * b if kind in ("embedding", "decoder") else 0

    def integers(self, kind: str) -> int:
        """Bytes of the integers that travel with them."""
        if kind == "vision_tokenizer":
            return self._tiles() + self._metadata()
        return self._metadata() if self.activations(kind) else 0

    def _tiles(self) -> int:
        return self.sequence.views * 4 * INT32

    def _metadata(self) -> int:
        return METADATA_ROWS * self.sequence.tokens * INT32


@dataclass(frozen=True)
class Memory:
    """Bytes of one process by kind."""

    weights: float
    gradients: float
    optimizer: float
    """Master weights, moments, and what the optimizer copies."""
    activations: float
    """Of all micro-batches in flight; of `checkpoint_activations` only what recomputing keeps."""
    recomputed: float
    """The same when every block is recomputed in the backward pass."""
    wire: float
    loss: float

    @property
    def static(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        return self.static + self.activations + self.wire + self.loss

    @property
    def total_recomputed(self) -> float:
        return self.total - self.activations + self.recomputed

    def in_gib(self) -> dict[str, float]:
        kinds = {name: value / GIB for name, value in asdict(self).items()}
        return kinds | {"total": self.total / GIB, "total_recomputed": self.total_recomputed / GIB}


@dataclass(frozen=True)
class MemoryModel:
    """Memory of any stage of a run."""

    layers: Sequence[LayerInfo]
    """With the activations of a micro-batch whose budgets are all used up."""
    widths: Widths
    head: DecoderConfig
    stages: int
    micro_batches: int
    data_parallel: int
    mixed_precision: bool

    def __call__(self, stage: int, start: int, stop: int) -> float:
        """Bytes of the stage that holds layers [start, stop)."""
        key = stage, start, stop
        if key not in self._totals:
            self._totals[key] = self.stage(stage, start, stop).total
        return self._totals[key]

    @cached_property
    def _totals(self) -> dict[tuple[int, int, int], float]:
        """What was asked for already: automatic cuts ask for the same stages again and again."""
        return {}

    def cut(self, bounds: Sequence[int]) -> list[Memory]:
        return [self.stage(number, *held) for number, held in enumerate(pairwise(bounds))]

    def stage(self, stage: int, start: int, stop: int) -> Memory:
        held = self.layers[start:stop]
        trainable = sum(layer.trainable for layer in held)
        flying = in_flight(stage, self.stages, self.micro_batches)
        kept = sum(
            (layer.activations.inputs if layer.recomputed else layer.activations.kept) for layer in held
        )
        again = max((layer.activations.block for layer in held if layer.recomputed), default=0)
        inputs = sum(layer.activations.inputs for layer in held)
        block = max(layer.activations.block for layer in held)
        ends = held[-1].kind in ("head", "language_model")
        return Memory(
            weights=sum(layer.parameters for layer in held) * self.widths.value_bytes,
            gradients=trainable * (FP32 + self.widths.value_bytes if self.mixed_precision else FP32),
            optimizer=self._optimizer(trainable),
            activations=kept * flying + again,
            recomputed=inputs * flying + block,
            wire=self._wire(stage, start, stop, flying),
            loss=head_working_bytes(self.head, self.widths.sequence.tokens, self.widths.value_bytes)
            if ends
            else 0,
        )

    def _optimizer(self, trainable: int) -> float:
        shared = 3 * FP32 * trainable / self.data_parallel
        if self.mixed_precision:
            return shared
        return shared + FP32 * min(trainable, REDUCE_BUCKET)

    def _wire(self, stage: int, start: int, stop: int, flying: int) -> float:
        if self.stages == 1:
            return self.widths.micro_batch()
        # The engine keeps two slots at least, and refills a slot only when its turn comes again.
        slots = min(max(2, flying), max(2, self.micro_batches))
        last = self.layers[stop - 1].kind
        sent = self.widths.activations(last)
        if start == 0:
            received, buffers = self.widths.micro_batch(), 0
        else:
            before = self.layers[start - 1].kind
            received = self.widths.activations(before) + self.widths.integers(before)
            buffers = received
        gradients = sent if any(layer.trainable for layer in self.layers[:stop]) else 0
        return slots * (received + sent) + buffers + gradients
