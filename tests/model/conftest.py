"""Small models and inputs that the model tests share."""

from __future__ import annotations

import pytest
import torch

from model import DeepseekOCR, DeepseekOCRConfig
from model.views import ImageViews


@pytest.fixture
def nano_config() -> DeepseekOCRConfig:
    return DeepseekOCRConfig.preset("nano")


@pytest.fixture
def nano(nano_config: DeepseekOCRConfig) -> DeepseekOCR:
    return DeepseekOCR(nano_config).initialise(seed=0)


def random_views(side: int, tile_side: int = 0, grid: tuple[int, int] = (1, 1), seed: int = 0) -> ImageViews:
    generator = torch.Generator().manual_seed(seed)
    tiles = None
    if tile_side:
        tiles = torch.randn(grid[0] * grid[1], 3, tile_side, tile_side, generator=generator)
    return ImageViews(torch.randn(3, side, side, generator=generator), tiles, grid)


def row_of(config: DeepseekOCRConfig, images: list[ImageViews], text: list[int]) -> list[int]:
    """[begin], placeholders of the images, text."""
    placeholders = sum(len(image.layout()) for image in images)
    return [0] + [config.image_token_id] * placeholders + text
