"""Texts that are longer than a micro-batch, split into stretches that are packed like samples of their own.

Only samples without images are split: a picture and what is read from it belong together. All stretches but the
last are as long as a micro-batch, the last is what remains. Labels are the next token, across the cut as well,
so no position loses its target; only the context starts anew, as it does for any sample in a pack.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.data.costs import Costs
from train.data.draws import DrawTable
from train.data.packing import TOKENS

DROP, SPLIT = "drop", "split"
TOO_LONG = (DROP, SPLIT)
"""What becomes of a text that fits no micro-batch."""


def split_long_texts(
    draws: DrawTable, costs: Costs, tokens: int
) -> tuple[DrawTable, Costs, NDArray[np.int64]]:
    """Draws and costs with one row per stretch of at most `tokens` tokens, and [rows] the number of the stretch.

    Stretch p of a text is what `TokenSequence.part(p, tokens)` gives.
    """
    length = costs.budgets[:, TOKENS]
    stretches = np.where(costs.images == 0, -(-length // tokens), 1)
    row = np.repeat(np.arange(len(length)), stretches)
    part = np.arange(len(row)) - np.repeat(np.cumsum(stretches) - stretches, stretches)
    draws = DrawTable(
        draws.source[row], draws.sample[row], draws.epoch[row], draws.mode_slot[row], draws.phase
    )
    costs = Costs(*(column[row] for column in costs))
    is_split = stretches[row] > 1
    start, whole = part * tokens, costs.budgets[:, TOKENS].copy()
    end = np.minimum(start + tokens, whole)
    # Labels stand at the last positions but one of a sequence: the last one predicts nothing.
    first_label, last_label = whole - 1 - costs.labelled, whole - 1
    labelled = np.clip(np.minimum(end, last_label) - np.maximum(start, first_label), 0, None)
    costs.budgets[:, TOKENS] = np.where(is_split, end - start, whole)
    return draws, costs._replace(labelled=np.where(is_split, labelled, costs.labelled)), part
