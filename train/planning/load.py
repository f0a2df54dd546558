"""What a micro-batch holds: the assumption behind every cost.

The best cut depends on it: images cost the encoder, their tokens cost the decoder, and only text has labels, so only
text costs the head.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from model.config import PATCH_SIZE
from model.layout import image_layout, tokens_per_view
from model.views import view_plan
from train.config import SequenceShape, TrainConfig, require
from train.data.modes import DEFAULT_MODE, SLOTS, ModeShares

TEXT_PER_VISION_TOKEN = 4
"""Of a usual page: about a thousand text tokens beside the 256 vision tokens of its global view in Base mode."""
PAGE = (1654, 2339)
"""Width and height in pixels of a usual page: A4 at 200 dots per inch."""


@dataclass(frozen=True)
class UsualPage:
    """One page in the modes of the tasks not named, on average over their shares."""

    views: Mapping[int, float]
    """Side in pixels -> number of views."""
    placeholders: float
    """Token places that its vision tokens, row ends and separator take."""
    length: float
    """Tokens with its text; a page holds no more text because it is seen in more detail."""

    @classmethod
    def of(cls, shares: ModeShares) -> UsualPage:
        views: Counter[int] = Counter()
        placeholders = length = 0.0
        for mode, slots in zip(shares.modes, shares.slots, strict=True):
            plan = view_plan(*PAGE, mode)
            share = slots / SLOTS
            for side in plan.sides:
                views[side] += share  # type: ignore[assignment]
            placeholders += share * len(plan.layout())
            length += share * (1 + TEXT_PER_VISION_TOKEN) * tokens_per_view(plan.global_side)
        return cls(dict(views), placeholders, max(length, placeholders))

    @property
    def patches(self) -> float:
        return sum(count * (side // PATCH_SIZE) ** 2 for side, count in self.views.items())

    @property
    def vision_tokens(self) -> float:
        return sum(count * tokens_per_view(side) for side, count in self.views.items())

    def most(self, shape: SequenceShape) -> float:
        """How many such pages, without text, the budgets of a sequence hold."""
        return min(
            shape.patches / self.patches,
            shape.views / sum(self.views.values()),
            shape.vision_tokens / self.vision_tokens,
            shape.tokens / self.placeholders,
        )


@dataclass(frozen=True)
class Load:
    """One packed sequence, all of whose token places are computed whether filled or not."""

    tokens: int
    images: float
    """Per sequence; a mean, so it need not be whole."""
    views: Mapping[int, float]
    """Side in pixels -> number of views in the sequence."""
    segments: tuple[int, ...]
    """Lengths of the packed samples, which do not attend to each other."""
    labelled: int
    """Token places that the head computes: all but the images' own."""


def usual_page(config: TrainConfig) -> UsualPage:
    return UsualPage.of(config.resolution_modes()[DEFAULT_MODE])


def reference_load(config: TrainConfig, side: int) -> Load:
    """Usual pages in one view of `side` pixels until the tokens are used up, whatever the modes and budgets say."""
    length = (1 + TEXT_PER_VISION_TOKEN) * tokens_per_view(side)
    page = UsualPage({side: 1.0}, len(image_layout(side)), length)
    return _load_of(page, config.sequence.tokens, config.sequence.tokens / length)


def usual_load(config: TrainConfig) -> Load:
    """The load that the budgets suggest: usual pages until the tokens or another budget is used up."""
    page = usual_page(config)
    return load_of(config, min(config.sequence.tokens / page.length, page.most(config.sequence)))


def fullest_load(config: TrainConfig) -> Load:
    """All budgets used up and a label everywhere: what memory must suffice for."""
    page = usual_page(config)
    full = load_of(config, page.most(config.sequence))
    return dataclasses.replace(full, labelled=config.sequence.tokens)


def assumed_load(config: TrainConfig) -> Load:
    """The load that a run is cut for: `parallel.images_per_sequence`, or the usual one.

    Raises:
        ConfigError: so many images do not fit the budgets.
    """
    images, page = config.parallel.images_per_sequence, usual_page(config)
    if images < 0:
        return usual_load(config)
    require(
        images <= page.most(config.sequence),
        f"parallel.images_per_sequence={images:g} is more than the {page.most(config.sequence):.3g} pages that the "
        f"budgets of `sequence` hold (one takes {page.placeholders:g} tokens, {page.vision_tokens:g} vision tokens, "
        f"{sum(page.views.values()):g} views and {page.patches:g} patches); raise them, or assume fewer.",
    )
    return load_of(config, images)


def load_of(config: TrainConfig, images: float) -> Load:
    """A sequence with so many usual pages, whatever the budgets of vision say; the rest is text.

    Raises:
        ConfigError: the pages alone are longer than the sequence.
    """
    return _load_of(usual_page(config), config.sequence.tokens, images)


def _load_of(page: UsualPage, tokens: int, images: float) -> Load:
    placeholders = images * page.placeholders
    require(
        placeholders <= tokens * (1 + 1e-9),
        f"{images:g} images per sequence take {images:g} × {page.placeholders:g} = {placeholders:,.0f} token places, "
        f"more than sequence.tokens={tokens}.",
    )
    length = min(tokens, round(page.length))
    if images > 0:
        length = max(1, min(length, int(tokens / images)))
    segments = (length,) * (tokens // length) + ((tokens % length,) if tokens % length else ())
    views = {side: images * count for side, count in page.views.items()}
    return Load(tokens, images, views, segments, max(0, tokens - round(placeholders)))
