"""Fingerprints: equal for equal models, different after any change; missing weights are refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file

from tests.vlm_bridge.families import FAMILIES, tiny
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model import fingerprint as module
from vlm_bridge.model.fingerprint import fingerprint
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import check_complete, load, load_meta


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_model_keeps_its_fingerprint(name, tmp_path):
    model = tiny(FAMILIES[name]).model
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(
        tmp_path, attn_implementation="sdpa", output_loading_info=True
    )
    check_complete(info)
    model.set_attn_implementation("sdpa")
    assert fingerprint(again) == fingerprint(model)


def last_weight(model):
    return list(model.parameters())[-1]


def swap_rows(model):
    """Leaves every sum as it was, and is found by the number of writes."""
    with torch.no_grad():
        weight = model.lm_head.weight
        weight.copy_(weight.flip(0))


def exchange_rows(model):
    """Leaves the sum of all words as it was, and counts no write."""
    weight = model.lm_head.weight.data
    weight.copy_(weight[torch.tensor([1, 0, *range(2, len(weight))])])


CHANGES = {
    "in place": lambda model: last_weight(model).detach().mul_(1.5),
    "one entry": lambda model: last_weight(model).detach().view(-1)[0].add_(0.1),
    "through data": lambda model: last_weight(model).data.mul_(1.5),
    "through numpy": lambda model: last_weight(model).detach().numpy().__imul__(1.5),
    "rows in another order": swap_rows,
    "rows exchanged through data": exchange_rows,
    "the configuration": lambda model: setattr(model.config, "vision_feature_layer", -2),
    "the scaling of attention": lambda model: setattr(
        model.model.language_model.layers[1].self_attn, "scaling", 0.1),
    "how it generates": lambda model: setattr(model.generation_config, "repetition_penalty", 1.2),
    "a new tensor": lambda model: setattr(model.lm_head, "weight", torch.nn.Parameter(
        model.lm_head.weight.detach() * 2)),
    "dtype": lambda model: model.to(torch.bfloat16),
    "attention": lambda model: model.set_attn_implementation("eager"),
    "a stored buffer": lambda model: model.lm_head.register_buffer("scale", torch.ones(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_this_process_is_noticed(name):
    vlm = tiny_llava()
    before = vlm.fingerprint
    CHANGES[name](vlm.model)
    after = vlm.fingerprint
    assert after != before
    module._hashed.clear()
    assert vlm.fingerprint == after  # what is kept equals what is hashed anew


PROCESSING = {
    "chat template": lambda processor: setattr(processor, "chat_template", "{{ messages }} now"),
    "image settings": lambda processor: setattr(processor.image_processor, "do_normalize", False),
    "a new token": lambda processor: processor.tokenizer.add_tokens(["newly"]),
}


@pytest.mark.parametrize("name", PROCESSING)
def test_how_prompts_are_made_belongs_to_the_model(name, tmp_path):
    vlm = tiny_llava()
    vlm = replace(vlm, processor=copy.deepcopy(vlm.processor))
    before = vlm.fingerprint
    picture(0).save(tmp_path / "0.png")
    assert list(batches(vlm, [Item(tmp_path / "0.png", "is it red ?")]))
    assert vlm.fingerprint == before  # padding is set by every call, and does not count
    PROCESSING[name](vlm.processor)
    assert vlm.fingerprint != before


def test_rope_belongs_to_the_model():
    vlm = tiny_llava()
    before = fingerprint(vlm.model)
    other = copy.deepcopy(vlm.model)
    assert fingerprint(other) == before
    other.config.text_config.rope_parameters["rope_theta"] = 1e6
    assert fingerprint(type(other)(other.config)) != fingerprint(type(other)(vlm.model.config))


def test_a_known_model_is_not_hashed_again(monkeypatch):
    vlm = tiny_llava()
    before = vlm.fingerprint
    monkeypatch.setattr(module, "_digest", lambda *_: pytest.fail("hashed again"))
    assert vlm.fingerprint == before
    monkeypatch.setattr(module, "_sums", lambda _: pytest.fail("weights were read"))
    assert vlm.running_fingerprint(quick=True) == before


def test_weights_of_any_size_and_place():
    """Slices of a larger tensor, transposed and empty tensors, sizes of no whole words."""
    layer = torch.nn.Linear(3, 3).to(torch.bfloat16)
    layer.weight = torch.nn.Parameter(torch.arange(12.0).bfloat16()[1:10].view(3, 3).T)
    layer.register_buffer("flags", torch.tensor([True, False, True])[1:])
    layer.register_buffer("nothing", torch.empty(0))
    layer.register_buffer("scale", torch.tensor(2.0))
    before = fingerprint(layer)
    assert fingerprint(copy.deepcopy(layer)) == before
    layer.flags.data.fill_(False)
    assert fingerprint(layer) != before


def test_where_the_weights_lie_does_not_matter():
    vlm = tiny_llava()
    before = vlm.fingerprint
    cpu_offload(vlm.model, execution_device=torch.device("cpu"))
    assert next(vlm.model.parameters()).is_meta
    assert vlm.fingerprint == before


def test_a_model_without_weights_has_no_fingerprint(folder):
    with pytest.raises(BridgeError, match=r"weights of .* are not in memory"):
        _ = load_meta(folder).fingerprint


def test_missing_tensors_are_refused_by_name(folder, tmp_path):
    whole = load(folder)
    whole.model.save_pretrained(tmp_path)
    whole.processor.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    lost = [name for name in tensors if "layers.1." in name and "language_model" in name]
    save_file({k: v for k, v in tensors.items() if k not in lost}, file, metadata={"format": "pt"})
    with pytest.raises(BridgeError, match=rf"lacks {len(lost)} tensors.*random.*layers\.1\..*more"):
        load(tmp_path)
    cut = {k: v[:-1].clone() if k == lost[0] else v for k, v in tensors.items()}
    save_file(cut, file, metadata={"format": "pt"})
    with pytest.raises(BridgeError, match="cannot load"):
        load(tmp_path)
    save_file({**tensors, "unused": torch.ones(1)}, file, metadata={"format": "pt"})
    assert load(tmp_path).fingerprint == whole.fingerprint
