"""The parts of real classes are found by structure, in families nobody listed too."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForMultimodalLM

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, tiny
from tests.vlm_bridge.families.configs import AUDIO, IMAGE, LAYERS, VIDEO
from tests.vlm_bridge.families.table import AUDIO_FAMILY
from tests.vlm_bridge.tiny import batch as llava_batch
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.model.layout import TOKEN_GROUPS, find_layout

#: Families with no tiny model here: the structure of a default-sized one is found all the same.
UNLISTED = [
    "aria",
    "cohere2_vision",
    "deepseek_vl_hybrid",
    "ernie4_5_vl_moe",
    "fuyu",
    "glm4v",
    "got_ocr2",
    "idefics2",
    "llama4",
    "mistral3",
    "molmo2",
    "ovis2",
    "paddleocr_vl",
    "phi4_multimodal",
    "qwen2_5_omni_thinker",
    "video_llava",
    "vipllava",
]


def on_meta(kind: str, **options):
    """A default-sized model of a family, without memory."""
    with torch.device("meta"):
        return AutoModelForMultimodalLM.from_config(AutoConfig.for_model(kind, **options))


@pytest.mark.parametrize("kind", UNLISTED)
def test_families_nobody_listed(kind):
    model = on_meta(kind)
    layout = find_layout(model)
    config = model.config.get_text_config(decoder=True)
    assert layout.n_layers == config.num_hidden_layers == len(layout.attention_types)
    assert layout.vision_ids
    assert [layer.self_attn.layer_idx for layer in layout.layers] == list(range(layout.n_layers))


@pytest.mark.parametrize("kind", ["blip-2", "instructblip"])
def test_decoders_one_step_further_in(kind):
    model = on_meta(kind, image_token_index=7)
    layout = find_layout(model)
    assert type(layout.decoder).__name__ == "OPTDecoder"
    assert layout.image_ids == (7,)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_listed_families(name):
    layout = tiny(FAMILIES[name]).layout
    assert layout.n_layers == LAYERS
    assert layout.image_ids == (IMAGE,)
    videos = name.startswith("Qwen") or name == "LLaVA-OneVision"
    assert layout.video_ids == ((VIDEO,) if videos else ())
    assert layout.audio_ids == ()
    assert layout.deepstack_layers == ((0, 1) if name == "Qwen3-VL" else ())
    sliding, full = "sliding_attention", "full_attention"
    expected = (sliding, full, sliding, full) if name == "Gemma3" else (full,) * LAYERS
    assert layout.attention_types == expected


def test_a_model_that_hears():
    layout = tiny(AUDIO_FAMILY).layout
    assert layout.audio_ids == (AUDIO,)
    assert layout.vision_ids == ()
    assert layout.modality_ids == (AUDIO,)
    assert layout.modality == "audio"
    assert layout.modality_flags(torch.tensor([[AUDIO, IMAGE]])).tolist() == [[True, False]]
    assert not layout.modality_flags(torch.tensor([[AUDIO]]), ["image", "video"]).any()


def test_a_window_without_layer_types_slides_everywhere():
    assert set(find_layout(on_meta("idefics2")).attention_types) == {"sliding_attention"}


def test_token_groups():
    vlm, inputs = tiny_llava(), llava_batch("padded")
    groups = vlm.layout.token_groups(inputs["input_ids"], inputs["attention_mask"])
    for ids, mask, found in zip(inputs["input_ids"], inputs["attention_mask"], groups, strict=True):
        for token, real, group in zip(ids.tolist(), mask.tolist(), found.tolist(), strict=True):
            expected = (
                "pad" if not real else {3: "image", 0: "special", 1: "special"}.get(token, "text")
            )
            assert TOKEN_GROUPS[group] == expected
    assert (groups == TOKEN_GROUPS.index("image")).sum(1).tolist() == [4, 4, 4]


def test_every_token_group():
    layout = tiny(FAMILIES["Qwen2.5-VL"]).layout
    ids = torch.tensor([[0, 9, 3, 4, 1]])
    mask = torch.tensor([[0, 1, 1, 1, 1]])
    found = [TOKEN_GROUPS[code] for code in layout.token_groups(ids, mask)[0].tolist()]
    assert found == ["pad", "text", "image", "video", "special"]
    assert layout.vision_ids == (3, 4)
    assert layout.modality_flags(ids)[0].tolist() == [False, False, True, True, False]
    heard = tiny(AUDIO_FAMILY).layout.token_groups(torch.tensor([[9, AUDIO]]), None)
    assert [TOKEN_GROUPS[code] for code in heard[0].tolist()] == ["text", "audio"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tiny_models_see_their_images(name):
    """Another picture gives other logits; a batch says what each of its sequences says alone."""
    family = FAMILIES[name]
    vlm = tiny(family)
    with torch.no_grad():
        inputs = batch(family, SITUATIONS["single"])
        says = vlm.model(**inputs).logits
        pixels = {**inputs, "pixel_values": inputs["pixel_values"].flip(-1)}
        assert (vlm.model(**pixels).logits - says).abs().max() > 1e-2
        together = batch(family, SITUATIONS["padded"])
        said = vlm.model(**together).logits
        alone = batch(family, SITUATIONS["padded"][:1])
        length = alone["input_ids"].shape[1]
        apart = vlm.model(**alone).logits
    torch.testing.assert_close(said[:1, -length:], apart, atol=1e-4, rtol=1e-4)
