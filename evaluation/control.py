"""The shuffled-image control: does the model read the picture, or has it learnt what texts usually look like?

Every sample keeps its prompt and its truth, but the model is shown the image of another sample of the same
dataset. A model that reads then falls to chance; a model that guesses from the prompt or from the
statistics of the texts keeps its score. Two numbers come out per dataset:

- *shuffled*: accuracy of what the model says to (own prompt, other image), against the own truth;
- *chance*: accuracy of the other image's truth against the own truth, which is what a perfect reader would
  get in the same test. A shuffled score well above chance means that something is known without looking.

Decoding is greedy, so what the model says depends on the prompt and the image only. Where the other sample
has the same prompt, its ordinary prediction therefore *is* the answer to (own prompt, other image), and it
is reused instead of being decoded a second time. Only where prompts differ is the model asked again. (The
one caveat: a batched matrix product may round differently beside other neighbours; this moves a near tie
once in a long while.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def derangement(size: int, seed: int) -> list[int]:
    """A seeded random permutation of range(size) in which nobody keeps his place (Sattolo's algorithm).

    Sattolo's shuffle yields one single cycle, so no position maps to itself whenever size >= 2. Sizes 0 and
    1 have no derangement: ValueError.
    """
    if size < 2:
        raise ValueError(
            f"{size} sample(s) cannot be shuffled among themselves; the control needs at least 2"
        )
    generator = random.Random(f"shuffled-image control {seed} {size}")
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        other = generator.randrange(last)
        order[last], order[other] = order[other], order[last]
    return order


def partners(prompts: Sequence[str], seed: int) -> list[int]:
    """For each sample, the index of the sample whose image it is shown in the control.

    Partners share the prompt wherever at least two samples have it, so that existing predictions answer the
    question; the samples whose prompt is unique are shuffled among themselves (or, if there is only one of
    them, it borrows the first other sample's image). Never the own image. ValueError below two samples.
    """
    if len(prompts) < 2:
        raise ValueError(
            f"{len(prompts)} sample(s) cannot be shuffled among themselves; the control needs at least 2"
        )
    groups: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(index)
    lonely = [members[0] for members in groups.values() if len(members) == 1]
    pools = [members for members in groups.values() if len(members) > 1]
    if len(lonely) > 1:
        pools.append(lonely)
    partner = [-1] * len(prompts)
    for members in pools:
        for position, source in enumerate(derangement(len(members), seed)):
            partner[members[position]] = members[source]
    if len(lonely) == 1:
        partner[lonely[0]] = 0 if lonely[0] != 0 else 1
    return partner
