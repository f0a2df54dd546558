import pytest

from model.freeze import freeze


def test_frozen_parts_keep_their_gradients_off_and_are_counted(nano):
    counts = freeze(nano, ["model.sam_model", "model.layers.0.self_attn", "model.image_newline"])
    assert counts == {
        "model.sam_model": sum(p.numel() for p in nano.model.sam_model.parameters()),
        "model.layers.0.self_attn": 4 * 128 * 128,
        "model.image_newline": 128,
    }
    frozen = {name for name, p in nano.named_parameters() if not p.requires_grad}
    dead = {"model.vision_model.embeddings.patch_embedding.weight"}
    assert all(name.startswith(tuple(counts)) for name in frozen - dead)
    assert not any(p.requires_grad for p in nano.model.sam_model.parameters())
    assert nano.model.layers[1].self_attn.q_proj.weight.requires_grad


def test_a_wrong_name_lists_the_possible_ones_and_changes_nothing(nano):
    with pytest.raises(ValueError, match=r"'model\.sam' .*model\.sam_model"):
        freeze(nano, ["model.layers", "model.sam"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze(nano, ["model", "lm_head"])
    assert nano.lm_head.weight.requires_grad and nano.model.norm.weight.requires_grad
