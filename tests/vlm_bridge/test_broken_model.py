"""A model with NaN or infinite numbers is refused, by layer, token group and sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.vlm_bridge.profiles import made_profile
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.cost import measure_cost
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.evaluate.certify import certify
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.sweep import sweep
from vlm_bridge.methods import find_method
from vlm_bridge.methods.run import run_method
from vlm_bridge.model.finite import BrokenModel
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.measure.attention_rank import attention_ranks
from vlm_bridge.rules.measure.candidates import run_candidates
from vlm_bridge.rules.measure.sensitivity import measure_sensitivity
from vlm_bridge.rules.measure.slopes import measure_slopes
from vlm_bridge.rules.measure.states import last_token_states
from vlm_bridge.rules.measure.sublayers import sublayer_geometry
from vlm_bridge.selection import search
from vlm_bridge.selection.choose import choose_plan

PLAN = SkipPlan("freeze", 4, layers=(3,))
NAN, INFINITE = float("nan"), float("inf")
#: Every way to run a model on questions, by name.
VERBS = {
    "answer": lambda vlm, items: answer(vlm, items, max_new_tokens=2),
    "certify": lambda vlm, items: certify(vlm, items, PLAN, max_new_tokens=2),
    "compare": lambda vlm, items: compare(vlm, items, PLAN, max_new_tokens=2),
    "sweep": lambda vlm, items: sweep(vlm, items, [PLAN]),
    "profile": profile,
    "choose": lambda vlm, items: choose_plan(
        vlm, made_profile(4, image=[0.1, 0.2, 0.3, 0.4]), items, max_new_tokens=2
    ),
    "search": lambda vlm, items: search(vlm, items[:3], items[3:], [PLAN], max_new_tokens=2),
    "cost": lambda vlm, items: measure_cost(vlm, items, PLAN, pairs=1),
    "slopes": lambda vlm, items: measure_slopes(vlm, items, kinds=["freeze"]),
    "sensitivity": lambda vlm, items: measure_sensitivity(vlm, items, modes=["freeze"]),
    "method": lambda vlm, items: run_method(
        vlm, [], items, find_method("unified"), max_new_tokens=2, pairs=1, tokens=0
    ),
    "candidates": lambda vlm, items: run_candidates(vlm, items, [PLAN]),
    "attention ranks": lambda vlm, items: attention_ranks(vlm, items, batch_size=16),
    "sublayers": lambda vlm, items: sublayer_geometry(vlm, items, batch_size=16),
    "states": lambda vlm, items: last_token_states(vlm, items, batch_size=16),
}


def spoiled(weight_of, value=NAN, vlm=None):
    vlm = vlm or tiny_llava()
    with torch.no_grad():
        weight = weight_of(vlm)
        weight.view(-1)[0] = value
    return vlm


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_broken_layer(items, verb):
    vlm = spoiled(lambda vlm: vlm.layout.layers[2].mlp.down_proj.weight)
    with pytest.raises(BrokenModel, match="tiny is broken: the outputs of layer 2 are NaN at"):
        VERBS[verb](vlm, items)


@pytest.mark.parametrize("value", [NAN, INFINITE])
@pytest.mark.parametrize("part", ["self_attn.v_proj", "mlp.down_proj", "input_layernorm"])
@pytest.mark.parametrize("layer", range(4))
def test_the_first_bad_layer_is_named(items, layer, part, value):
    vlm = spoiled(lambda vlm: vlm.layout.layers[layer].get_submodule(part).weight, value)
    with pytest.raises(BrokenModel, match=f"the outputs of layer {layer} are"):
        compare(vlm, items, PLAN, max_new_tokens=2)


@pytest.mark.parametrize(
    ("weight_of", "place"),
    [
        (lambda vlm: vlm.layout.decoder.norm.weight, "the states after the final norm are NaN"),
        (lambda vlm: vlm.model.lm_head.weight, "the logits are NaN at answer tokens"),
        (
            lambda vlm: vlm.layout.base.vision_tower.post_layernorm.bias,
            "nothing",  # LLaVA reads the features before this norm
        ),
        (
            lambda vlm: vlm.layout.base.vision_tower.encoder.layers[1].mlp.fc2.bias,
            "the embedded tokens and images are NaN at image tokens",
        ),
        (
            lambda vlm: vlm.layout.base.multi_modal_projector.linear_2.bias,
            "the embedded tokens and images are NaN at image tokens",
        ),
    ],
)
def test_places_beside_the_layers_are_named(items, weight_of, place):
    vlm = spoiled(weight_of)
    if place == "nothing":
        assert answer(vlm, items, max_new_tokens=2) == answer(tiny_llava(), items, max_new_tokens=2)
        return
    with pytest.raises(BrokenModel, match=place):
        certify(vlm, items, PLAN, max_new_tokens=2)


def test_one_bad_sequence_of_a_batch_is_named(items):
    """A word whose embedding is NaN spoils the questions that use it, and only those."""
    vlm = tiny_llava()
    word = vlm.processor.tokenizer.convert_tokens_to_ids("blue")
    with torch.no_grad():
        vlm.model.get_input_embeddings().weight[word] = NAN
    bad = [place for place, item in enumerate(items) if "blue" in item.question]
    assert 0 < len(bad) < len(items)
    good = [item for item in items if "blue" not in item.question]
    assert answer(vlm, good, max_new_tokens=1)
    wanted = rf"NaN at text tokens, first in sequence {bad[0] + 1} of a batch of {len(items)} \("
    with pytest.raises(BrokenModel, match=wanted):
        certify(vlm, items, PLAN, max_new_tokens=2)


def test_vision_that_no_answer_reads_is_still_refused(items):
    """After the last layer's attention NaN in vision tokens reaches no logit."""
    vlm = tiny_llava()
    head, real = vlm.layout.layers[3].mlp, vlm.layout.layers[3].mlp.forward
    flags = {}

    def forward(states):
        out = real(states)
        if states.shape[1] > 1:
            out[:, flags["at"]] = NAN
        return out

    head.forward = forward
    flags["at"] = slice(2, 4)  # image tokens of every prompt
    with pytest.raises(BrokenModel, match="the outputs of layer 3 are NaN at image tokens"):
        answer(vlm, items[:1], max_new_tokens=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_overflow_in_half_precision_is_refused(items, dtype):
    vlm = tiny_llava()
    with torch.no_grad():
        big = 3e4 if dtype == torch.float16 else 3e38
        vlm.layout.layers[1].mlp.down_proj.weight.fill_(big)
    vlm.model.to(dtype)
    with pytest.raises(BrokenModel, match=r"the outputs of layer 1 are (infinite|NaN)"):
        certify(vlm, items, PLAN, max_new_tokens=2)


def test_a_model_that_breaks_only_while_it_skips_is_refused(items):
    """Without layer 1 the next layer overflows; the full model is finite."""
    vlm = tiny_llava()
    layer, real = vlm.layout.layers[2], vlm.layout.layers[2].mlp.forward

    def forward(states):
        skipped = "forward" in vars(vlm.layout.layers[1])
        return real(states) + (NAN if skipped else 0.0)

    layer.mlp.forward = forward
    assert answer(vlm, items, max_new_tokens=2)
    with pytest.raises(BrokenModel, match="the outputs of layer 2 are NaN"):
        certify(vlm, items, SkipPlan("block", 4, layers=(1,)), max_new_tokens=2)


def test_breaking_while_decoding_is_refused(items):
    """The prompt is fine; a later answer token is not."""
    vlm = tiny_llava()
    mlp, real = vlm.layout.layers[1].mlp, vlm.layout.layers[1].mlp.forward
    mlp.forward = lambda states: real(states) * (NAN if states.shape[1] == 1 else 1.0)
    assert answer(vlm, items, max_new_tokens=1)
    with pytest.raises(BrokenModel, match="the outputs of layer 1 are NaN at answer tokens"):
        answer(vlm, items, max_new_tokens=3)


def test_padding_may_hold_anything(items):
    """What the last layer computes on padding is read by nobody: no fault of the model."""
    by_length = sorted(items, key=lambda item: len(item.question))
    asked = [by_length[0], by_length[-1]]
    vlm = tiny_llava()
    wanted = answer(vlm, asked, max_new_tokens=2)
    mlp, real = vlm.layout.layers[3].mlp, vlm.layout.layers[3].mlp.forward
    spoil = [0]

    def forward(states):
        out = real(states)
        if states.shape[1] > 1:
            out[spoil[0], 0] = NAN
        return out

    mlp.forward = forward
    assert answer(vlm, asked, max_new_tokens=2) == wanted
    spoil[0] = 1  # the longer prompt has a token there
    with pytest.raises(BrokenModel, match="first in sequence 2 of a batch of 2"):
        answer(vlm, asked, max_new_tokens=2)


def test_a_broken_batch_leaves_no_trace_in_a_checkpoint(items, tmp_path):
    file = tmp_path / "run.jsonl"
    vlm = spoiled(lambda vlm: vlm.layout.layers[0].mlp.down_proj.weight)
    with pytest.raises(BrokenModel):
        certify(vlm, items, PLAN, max_new_tokens=2, checkpoint=file)
    assert len(Path(file).read_text().splitlines()) == 1  # the key alone
