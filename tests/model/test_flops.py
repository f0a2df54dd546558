"""FLOPs against figures published for, or counted on, the full-size model."""

import pytest

from model.config import DeepseekOCRConfig
from model.flops import clip_flops, decoder_layer_flops, decoder_layer_parameters, head_flops, sam_flops


@pytest.mark.parametrize(("side", "sam", "clip"), [(512, 228, 39.7), (1024, 977, 161.7), (1280, 1683, 258)])
def test_encoder_in_gigaflops(side, sam, clip):
    config = DeepseekOCRConfig()
    assert sam_flops(config.sam, side) / 1e9 == pytest.approx(sam, rel=2e-3)
    assert clip_flops(config.clip, side) / 1e9 == pytest.approx(clip, rel=2e-3)


def test_active_parameters_are_the_papers_570_million():
    config = DeepseekOCRConfig().language
    layers = range(config.num_hidden_layers)
    active = sum(decoder_layer_parameters(config, layer, active=True) for layer in layers)
    head = config.hidden_size * config.vocab_size
    assert active + config.hidden_size + head == 574_127_360
    stored = sum(decoder_layer_parameters(config, layer, active=False) for layer in layers)
    assert stored + config.hidden_size + 2 * head == 2_934_734_080


def test_the_head_costs_more_than_four_layers():
    config = DeepseekOCRConfig().language
    layer = decoder_layer_flops(config, 5, [1300] * 6)
    assert 4.2 < head_flops(config, 7800) / layer < 4.9
