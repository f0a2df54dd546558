import dataclasses

import pytest

from model.config import PRESETS, DecoderConfig, DeepseekOCRConfig, ModelConfigError
from model.convert import released_shapes


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip_through_config_json(name):
    config = DeepseekOCRConfig.preset(name)
    assert DeepseekOCRConfig.from_dict(config.to_dict()) == config


def test_a_config_that_was_read_is_written_back_unchanged_with_its_unknown_keys():
    source = DeepseekOCRConfig().to_dict()
    source["_name_or_path"] = "somewhere"
    source["language_config"]["use_cache"] = True
    del source["transformers_version"]
    assert DeepseekOCRConfig.from_dict(source).to_dict() == source


def test_the_full_size_has_the_released_tensors_and_parameters():
    shapes = released_shapes(DeepseekOCRConfig())
    assert len(shapes) == 2710
    count = 0
    for shape in shapes.values():
        product = 1
        for size in shape:
            product *= size
        count += product
    assert count == 3_336_106_240
    assert shapes["model.layers.11.mlp.experts.63.down_proj.weight"] == (1280, 896)
    assert shapes["model.layers.1.mlp.shared_experts.up_proj.weight"] == (1792, 1280)
    assert shapes["model.sam_model.blocks.2.attn.rel_pos_h"] == (127, 64)
    assert shapes["model.sam_model.blocks.3.attn.rel_pos_w"] == (27, 64)
    assert shapes["model.vision_model.embeddings.patch_embedding.weight"] == (1024, 3, 14, 14)
    assert shapes["model.view_seperator"] == (1280,)


def test_full_size_config_json_has_no_extra_keys():
    written = DeepseekOCRConfig().to_dict()
    assert "image_token_id" not in written
    assert set(written["vision_config"]["width"]["sam_vit_b"]) == {
        "width", "layers", "heads", "global_attn_indexes", "downsample_channels",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_mla": True}, "use_mla"),
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"hidden_size": 1281}, "hidden_size"),
    ],
)
def test_an_impossible_language_config_is_refused_by_name(change, named):
    source = DeepseekOCRConfig().to_dict()
    source["language_config"].update(change)
    with pytest.raises(ModelConfigError, match=named):
        DeepseekOCRConfig.from_dict(source)


def test_refusals_say_what_to_change():
    with pytest.raises(ModelConfigError, match="nano, small, deepseek_ocr_3b"):
        DeepseekOCRConfig.preset("tiny")
    with pytest.raises(ModelConfigError, match="vision_config"):
        DeepseekOCRConfig.from_dict({"language_config": {}, "projector_config": {}})
    with pytest.raises(ModelConfigError, match="more than n_routed_experts"):
        dataclasses.replace(DecoderConfig(), num_experts_per_tok=65)
