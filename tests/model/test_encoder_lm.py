import pytest
import torch

from model.config import ModelConfigError
from model.encoder_lm import EncoderLanguageModel, compact_language_model, packed_hidden_states
from model.loss import next_token_loss


@pytest.fixture
def stage_one(nano_config) -> EncoderLanguageModel:
    torch.manual_seed(0)
    return EncoderLanguageModel(nano_config, compact_language_model("nano", 512)).initialise_encoder(seed=0)


def _packed():
    ids = torch.randint(4, 500, (1, 20))
    vision_index = torch.full((1, 20), -1)
    vision_index[0, 1:5] = torch.arange(4)
    vision_index[0, 11:14] = torch.tensor([4, 5, 13])
    segments = torch.tensor([[1] * 10 + [2] * 10])
    positions = torch.tensor([list(range(10)) * 2])
    return ids, vision_index, segments, positions


def test_packed_samples_do_not_see_each_other(stage_one):
    stage_one.eval()
    vision = stage_one.vision_tokens([torch.randn(3, 128, 128), torch.randn(3, 192, 192)])
    assert vision.shape == (4 + 9 + 2, 128)
    ids, index, segments, positions = _packed()
    packed = packed_hidden_states(stage_one.language_model, ids, index, vision, segments, positions)
    for part in (slice(0, 10), slice(10, 20)):
        alone = packed_hidden_states(
            stage_one.language_model,
            ids[:, part],
            index[:, part],
            vision,
            segments[:, part],
            positions[:, part],
        )
        torch.testing.assert_close(packed[:, part], alone, rtol=1e-4, atol=1e-5)


def test_stage_one_trains_the_encoder_and_names_it_as_stage_two(stage_one, nano):
    vision = stage_one.vision_tokens([torch.randn(3, 128, 128), torch.randn(3, 192, 192)])
    ids, index, segments, positions = _packed()
    hidden = packed_hidden_states(stage_one.language_model, ids, index, vision, segments, positions)
    next_token_loss(hidden[0], stage_one.language_model.lm_head.weight, ids[0]).backward()
    encoder = [
        name
        for name, _ in stage_one.named_parameters()
        if name.startswith(("model.sam_model.", "model.vision_model."))
    ]
    with_gradient = [name for name in encoder if stage_one.get_parameter(name).grad is not None]
    assert set(encoder) - set(with_gradient) == {"model.vision_model.embeddings.patch_embedding.weight"}
    second = dict(nano.named_parameters())
    assert all(stage_one.get_parameter(name).shape == second[name].shape for name in encoder)


def test_a_language_model_comes_from_a_preset_or_a_local_directory(tmp_path, stage_one):
    stage_one.language_model.save_pretrained(tmp_path / "opt")
    again = compact_language_model(tmp_path / "opt", vocab_size=520)
    assert again.config.vocab_size == 520
    old = stage_one.language_model.model.decoder.embed_tokens.weight
    assert torch.equal(again.model.decoder.embed_tokens.weight[:512], old)
    with pytest.raises(ModelConfigError, match="neither a compact language model preset"):
        compact_language_model("opt_huge", 512)
