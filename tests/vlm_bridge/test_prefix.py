"""What runs of an adaptive plan share is of the prompts, and of the rows that are left."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.vlm_bridge.families import FAMILIES, batch, tiny
from tests.vlm_bridge.tiny import tokenizer
from vlm_bridge.data import Item
from vlm_bridge.evaluate.adaptive import AdaptiveRun, adaptive_answers
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.model.prompts import collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.prefix import inputs_of_rows

NEVER = AdaptivePlan((Gate(SkipPlan("block", 4, layers=(2,)), threshold=math.inf),))
WORDS = [Item(None, word) for word in ("red", "blue", "circle", "shape")]


@pytest.fixture(scope="module")
def text():
    """A random Llama whose layers matter; a word is a prompt of one token."""
    torch.manual_seed(0)
    words = tokenizer()
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(words),
        pad_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return VLM.of("text", model, words)


def test_steps_of_decoding_are_no_prompts_of_one_token(text):
    """Every step is as long as the prompt; the full model starts from the prompt all the same."""
    assert collate(text, WORDS, range(4)).inputs["input_ids"].shape == (4, 1)
    full = answer(text, WORDS, max_new_tokens=5)
    assert any(len(set(words.split())) > 1 for words in full)
    made = adaptive_answers(text, WORDS, NEVER, max_new_tokens=5)
    assert (list(made.texts), made.gates) == (full, (1,) * 4)


def test_the_length_of_an_answer_does_not_change_what_is_kept(text):
    asked = collate(text, WORDS, range(4))
    kept = []
    for longest in (1, 5):
        run = AdaptiveRun(text, asked, NEVER, max_new_tokens=longest)
        run.at_gate(NEVER.gates[0])
        kept.append(run._prefix.states)
    assert kept[0].keys() == kept[1].keys() == {0, 2}
    for depth, states in kept[0].items():
        torch.testing.assert_close(kept[1][depth], states)


@pytest.mark.parametrize(
    ("prompts", "by_row"),
    [
        (("ttIttItt", "tttttttt", "It"), False),  # as many images as rows
        (("tttttttt", "IIt", "tIt"), False),
        (("ttItt", "Itttttttt", "tIt"), True),
        (("tttt", "tt", "t"), True),  # no images, and so no grids
        (("IIt", "tI"), False),  # more images than rows
    ],
)
def test_grids_go_with_rows_only_where_each_row_has_one_image(prompts, by_row):
    family = FAMILIES["Qwen2.5-VL"]
    vlm, inputs = tiny(family), batch(family, prompts)
    if "image_grid_thw" in inputs:  # tells the images apart
        grids = inputs["image_grid_thw"].clone()
        grids[:, 0] += torch.arange(len(grids))
        inputs["image_grid_thw"] = grids
    last = len(prompts) - 1
    found = inputs_of_rows(inputs, [last, 0], vlm, 1)
    assert (found is not None) == by_row
    for name, value in (found or {}).items():
        assert torch.equal(value, inputs[name][[last, 0]]), name
    assert not by_row or (found.keys() & {"image_grid_thw"}) == (inputs.keys() & {"image_grid_thw"})
