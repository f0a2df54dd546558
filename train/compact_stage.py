"""The last layer of stage 1: the compact language model (transformers' OPT) and its loss.

Its own file because transformers takes seconds to import, and stage 2 does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import OPTForCausalLM

from model.encoder_lm import packed_hidden_states
from model.loss import next_token_losses
from train.data.micro_batch import LABEL, POSITION, SEGMENT, TOKEN_IDS, VISION_INDEX
from train.pipeline_layers import LossStage, as_float


class CompactLanguageModelStage(LossStage):
    """Stage 1's language model (transformers' OPT) and its loss."""

    prefixes: Mapping[str, str] = {"language_model": "language_model"}

    def __init__(self, language_model: OPTForCausalLM, micro_batches: int, data_parallel_size: int) -> None:
        super().__init__(micro_batches, data_parallel_size)
        self.language_model = language_model

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """(vision, metadata) -> loss, fp32 scalar."""
        vision, metadata = batch
        head = self.language_model.lm_head.weight
        hidden = packed_hidden_states(
            self.language_model,
            metadata[TOKEN_IDS][None],
            metadata[VISION_INDEX][None],
            as_float(vision, head.dtype),
            metadata[SEGMENT][None],
            metadata[POSITION][None],
        )[0]
        return self.weigh(*next_token_losses(hidden, head, metadata[LABEL]), metadata)
