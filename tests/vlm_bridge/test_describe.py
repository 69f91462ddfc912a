"""A description says what the real classes do; it needs no weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForMultimodalLM

from tests.vlm_bridge.families import FAMILIES, UNLISTED, tiny
from tests.vlm_bridge.families.configs import LAYERS
from tests.vlm_bridge.families.table import AUDIO_FAMILY
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM, load_meta
from vlm_bridge.plan.modes import MODES
from vlm_bridge.runtime.machine import command_line
from vlm_bridge.skip.describe import ModelDescription, describe

#: One tile or image has as many tokens as the tiny model really takes; these vary by image.
VARY = ("LLaVA-NeXT", "LLaVA-OneVision", "Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name):
    vlm, family = tiny(FAMILIES[name]), FAMILIES[name]
    found = describe(vlm)
    assert found.model_class == type(vlm.model).__name__
    assert (found.n_layers, found.hidden_size, found.heads, found.kv_heads) == (LAYERS, 32, 4, 2)
    assert found.vision_tokens == (None if name in VARY else family.tokens)
    assert found.positions == ("mrope" if name.startswith("Qwen") else "rope")
    assert found.window == (6 if name == "Gemma3" else None)
    assert found.sublayers[:2] == ("self_attn", "mlp")
    assert tuple(found.modes) == tuple(MODES)
    assert found.parameters > found.layer_parameters > 0
    assert found.token_ids["image"] == (3,)
    assert found.token_ids["special"] == (0, 1)
    assert ModelDescription.from_json(found.to_json()) == found


@pytest.mark.parametrize("name", UNLISTED)
def test_families_nobody_listed(name):
    """A number of vision tokens is right or not given."""
    found = describe(tiny(UNLISTED[name]))
    assert found.vision_tokens in (None, UNLISTED[name].tokens)
    assert found.vision_tokens is not None or name not in ("VipLLaVA", "Cohere2Vision")
    if found.vision_tokens is None:
        assert found.vision_note in (
            "depends on the size of the image",
            "not given by the configuration",
        )
    slide = "sliding_attention" in found.attention_types
    assert found.window == (6 if slide else None)


def test_learned_positions():
    with torch.device("meta"):
        config = AutoConfig.for_model("blip-2", image_token_index=7)
        model = AutoModelForMultimodalLM.from_config(config)
    found = describe(VLM("blip", model, None, find_layout(model)))
    assert found.positions == "learned"
    assert found.modes["sublayer"].startswith("layer 0: OPTDecoderLayer has no single module that")


def test_the_text_form():
    text = str(describe(tiny(FAMILIES["Gemma3"])))
    lines = dict(line.split("  ", 1) for line in text.splitlines())
    lines = {head: rest.strip() for head, rest in lines.items()}
    assert lines["attention"] == "2 sliding, 2 full: sliding full sliding full (window 6)"
    assert lines["cache"] == "2 DynamicSlidingWindowLayer, 2 DynamicLayer"
    assert lines["vision tokens"] == "4 (an image or tile of 16 x 16 pixels)"
    assert lines["image ids"] == "3"
    assert lines["video ids"] == "none"
    assert lines["block"] == "supported"
    deepstack = str(describe(tiny(FAMILIES["Qwen3-VL"])))
    assert "vision features added behind layers 0, 1" in deepstack


def test_a_model_that_hears():
    found = describe(tiny(AUDIO_FAMILY))
    assert found.vision_tokens is None
    assert found.vision_note == "the model sees no images"
    assert found.token_ids["audio"] == (5,)


def test_without_weights(tmp_path):
    vlm = tiny_llava()
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    from_config, loaded = describe(load_meta(tmp_path)), describe(vlm)
    ours = from_config.to_json() | {"name": "tiny"}
    assert from_config.token_ids["special"] == (0, 1, 2)
    assert ours | {"token_ids": None} == loaded.to_json() | {"token_ids": None}


def test_another_schema_is_refused():
    data = describe(tiny(FAMILIES["LLaVA"])).to_json()
    with pytest.raises(ValueError, match="schema version 9; this code reads version 1"):
        ModelDescription.from_json(data | {"schema_version": 9})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["/a/b/python3.11", "/a/b/bin/skipit", "demo", "--out", "x y"], "skipit demo --out 'x y'"),
        (["/a/b/python", "-m", "benchmarks.rules", "--json"], "python -m benchmarks.rules --json"),
        (["/a/b/python"], "python"),
    ],
)
def test_a_command_says_nothing_of_folders(monkeypatch, given, said):
    monkeypatch.setattr("sys.orig_argv", given)
    assert command_line() == said
