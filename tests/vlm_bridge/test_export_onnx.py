"""What `export_onnx` writes says in ONNX Runtime what the pruned model says in transformers."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from estimators.extras import MissingExtra
from tests.vlm_bridge.families import FAMILIES, tiny
from tests.vlm_bridge.tiny import batch, tiny_llava
from tests.vlm_bridge.tiny_llama import tiny_llama
from vlm_bridge.errors import BridgeError
from vlm_bridge.skip import export_onnx as module
from vlm_bridge.skip.export_onnx import export_onnx
from vlm_bridge.skip.onnx_model import DECODER, EMBED, SETTINGS, VISION, OnnxModel, cache_names

PLAN = "block layers=1"
NEW = 8


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A pruned LLaVA: its folder, and that of its graphs."""
    folder = tmp_path_factory.mktemp("seeing")
    pruned = vb.prune(tiny_llava(), PLAN, folder / "small")
    return pruned, export_onnx(pruned, folder / "onnx")


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """A pruned Llama and the folder of its graphs."""
    folder = tmp_path_factory.mktemp("reading")
    pruned = vb.prune(tiny_llama(), PLAN, folder / "small")
    return vb.load(pruned), export_onnx(pruned, folder / "onnx")


def said(model, inputs):
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW)
    return ids[:, inputs["input_ids"].shape[1] :].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["single", "padded", "ragged", "no image"])
def test_greedy_tokens_of_a_pruned_llava_are_equal(name, seeing):
    """Left padding, several images in a prompt, none; as the plan says it, and as the folder."""
    pruned, graphs = seeing
    inputs = batch(name)
    expected = said(vb.load(pruned).model, inputs)
    with vb.skipping(vlm := tiny_llava(), PLAN):
        assert np.array_equal(said(vlm.model, inputs), expected)
    found = OnnxModel(graphs).greedy(inputs, NEW)
    assert np.array_equal(found, expected)
    assert len({tuple(row) for row in found}) == len(found)  # the prompts matter


@pytest.mark.slow
def test_greedy_tokens_of_a_pruned_llama_are_equal(reading):
    small, graphs = reading
    ids = torch.arange(3, 45).reshape(3, 14)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    assert np.array_equal(OnnxModel(graphs).greedy(inputs, NEW), said(small.model, inputs))
    assert not (graphs / VISION).exists()
    with pytest.raises(BridgeError, match="the inputs have no input_ids, only attention_mask"):
        OnnxModel(graphs).greedy({"attention_mask": mask})
    right = {**inputs, "attention_mask": inputs["attention_mask"].flip(1)}
    with pytest.raises(BridgeError, match="padded on the left"):
        OnnxModel(graphs).greedy(right)


@pytest.mark.slow
def test_a_pruned_image_encoder_goes_along(tmp_path):
    vlm, inputs = tiny_llava(), batch("padded")
    pruned = vb.prune(vlm, "block layers=0 stack=vision", tmp_path / "small")
    expected = said(vb.load(pruned).model, inputs)
    assert not np.array_equal(said(vlm.model, inputs), expected)  # the layer matters
    found = OnnxModel(export_onnx(pruned, tmp_path / "onnx")).greedy(inputs, NEW)
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_the_cache_of_several_calls_is_one_long_prompt(reading):
    small, graphs = reading
    found, ids = OnnxModel(graphs), np.arange(3, 13)[None]
    size = found.settings
    past = [np.zeros((1, size["key_value_heads"], 0, size["head_width"]), np.float32)]
    past, pieces = past * (2 * size["layers"]), []
    for start, stop in ((0, 4), (4, 5), (5, 10)):
        mask = np.ones((1, stop), np.int64)
        logits, past = found.logits(found.embeds(ids[:, start:stop]), mask, past)
        pieces.append(logits)
    with torch.no_grad():
        whole = small.model(torch.as_tensor(ids)).logits.numpy()
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-4, rtol=1e-4)
    assert past[0].shape[2] == 10


@pytest.mark.slow
def test_the_folder_holds_no_pickle_and_what_a_user_needs(seeing):
    pruned, graphs = seeing
    names = {path.name for path in graphs.iterdir()}
    assert {DECODER, EMBED, VISION, SETTINGS, "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".pt", ".bin", ".pkl", ".pth"))}
    settings = json.loads((graphs / SETTINGS).read_text())
    assert settings["layers"] == 3
    assert settings["image_ids"] == [3]
    assert settings["fingerprint"] == vb.load(pruned).fingerprint


@pytest.mark.slow
def test_images_that_do_not_fit_are_refused(seeing):
    found, inputs = OnnxModel(seeing[1]), batch("padded")
    with pytest.raises(BridgeError, match="the prompt has an image, and pixel_values is missing"):
        found.greedy({k: v for k, v in inputs.items() if k != "pixel_values"})
    with pytest.raises(BridgeError, match=re.escape("images are (..., 3, 16, 16), got an array")):
        found.greedy({**inputs, "pixel_values": np.zeros((3, 3, 8, 8), np.float32)})
    with pytest.raises(BridgeError, match="the images have 4 tokens and the prompts 12 places"):
        found.greedy({**inputs, "pixel_values": inputs["pixel_values"][:1]})


@pytest.mark.slow
def test_a_graph_with_other_numbers_is_never_handed_over(tmp_path, monkeypatch):
    """The graphs are made with one layer's weights altered behind the model's back."""
    vlm, write = tiny_llama(), module._write_graphs

    def altered(vlm, folder):
        weight = vlm.layout.layers[2].mlp.down_proj.weight
        weight.mul_(1.1)
        write(vlm, folder)
        weight.div_(1.1)

    monkeypatch.setattr(module, "_write_graphs", altered)
    with pytest.raises(
        BridgeError, match=r"decoder_model\.onnx gives other numbers in ONNX Runtime"
    ):
        export_onnx(vlm, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny(FAMILIES["Gemma3"]), "some of its layers are sliding_attention"),
        (lambda: tiny(FAMILIES["Qwen2.5-VL"]), "its positions have several axes (M-RoPE)"),
        (lambda: tiny(FAMILIES["LLaVA-NeXT"]), "its image encoder may take more than pixels"),
        (lambda: 7, "a model is wanted, got"),
    ],
)
def test_refusals_leave_no_folder(make, message, tmp_path):
    with pytest.raises(BridgeError, match=re.escape(message)):
        export_onnx(make(), tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_a_half_precision_model_and_a_full_folder_are_refused(tmp_path):
    vlm = tiny_llama()
    (tmp_path / "kept").touch()
    with pytest.raises(BridgeError, match="exists and is no empty folder"):
        export_onnx(vlm, tmp_path)
    vlm.model.bfloat16()
    with pytest.raises(BridgeError, match="load it with dtype='float32'"):
        export_onnx(vlm, tmp_path / "onnx")


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    def none(who, package, extra):
        raise MissingExtra(f"{who} needs {package}: pip install 'skipit[{extra}]'")

    monkeypatch.setattr(module, "require", none)
    with pytest.raises(MissingExtra, match=re.escape("needs onnx: pip install 'skipit[onnx]'")):
        export_onnx(tiny_llama(), tmp_path / "onnx")


@pytest.mark.parametrize("most", [0, -1, True, 2.0])
def test_a_number_of_tokens_that_is_none_is_refused(most):
    blank = object.__new__(OnnxModel)
    with pytest.raises(BridgeError, match="max_new_tokens is a positive number"):
        blank.greedy({"input_ids": [[1]]}, most)


def test_names_of_the_cache_alternate():
    assert cache_names("past_key_values", 2)[1:3] == [
        "past_key_values.0.value",
        "past_key_values.1.key",
    ]
