"""Every way to generate under every mode: the fast form says what the plain form says."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache, StaticCache

from tests.vlm_bridge.skip_cases import assert_close, forward, plans, tiny
from tests.vlm_bridge.tiny import batch, picture, processor
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

WAYS = {
    "beams": {"num_beams": 3, "do_sample": False},
    "sampling": {"do_sample": True, "temperature": 1.0, "num_return_sequences": 2},
    "static cache": {"do_sample": False, "cache_implementation": "static"},
    "static beams": {"num_beams": 2, "do_sample": False, "cache_implementation": "static"},
    # Without a cache a generated image id would be taken for a picture of the prompt.
    "no cache": {"do_sample": False, "use_cache": False, "suppress_tokens": [3]},
}
LOOKUP = {"prompt_lookup_num_tokens": 3, "do_sample": False}


def generate(vlm, plan, inputs, options, *, fast):
    torch.manual_seed(7)
    with skipping(vlm, plan, fast=fast):
        return vlm.model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, **options)


def slowly(*names):
    return [pytest.param(w, marks=pytest.mark.slow) if w in names else w for w in WAYS]


@plans
@pytest.mark.parametrize("way", slowly("static beams", "no cache"))
def test_generation(plan, way):
    vlm, inputs = tiny(), batch("ragged")
    plain = generate(vlm, plan, inputs, WAYS[way], fast=False)
    assert torch.equal(generate(vlm, plan, inputs, WAYS[way], fast=True), plain)


@plans
def test_guessed_tokens_are_taken_back(plan):
    """Prompt lookup guesses tokens, runs them in one pass and crops the cache."""
    vlm, inputs = tiny(), batch("single")
    greedy = generate(vlm, plan, inputs, {"do_sample": False}, fast=True)
    for fast in (True, False):
        assert torch.equal(generate(vlm, plan, inputs, LOOKUP, fast=fast), greedy)


@plans
def test_a_prompt_in_chunks_of_a_static_cache(plan):
    vlm, inputs = tiny(), batch("single")
    found = []
    for fast in (True, False):
        cache = StaticCache(config=vlm.layout.text_config, max_cache_len=24)
        with skipping(vlm, plan, fast=fast):
            found.append(turns(vlm, [inputs, *later_turns()], cache))
    assert_close(*found)


def later_turns():
    """A turn of text, and one with another picture."""
    made = processor()(text="<image> red ?", images=[picture(9)], return_tensors="pt")
    return [{"input_ids": torch.tensor([[5, 6, 7]])}, dict(made)]


def turns(vlm, parts, cache):
    """Logits of some turns with a kept cache, without masks and positions."""
    parts = [{k: v for k, v in part.items() if k != "attention_mask"} for part in parts]
    return torch.cat(
        [forward(vlm, part, past_key_values=cache, use_cache=True).logits for part in parts], dim=1
    )


@plans
def test_turns_with_a_kept_cache(plan):
    """The second picture enters behind a past that holds the first."""
    vlm, inputs = tiny(), batch("single")
    parts = [inputs, *later_turns()]
    found = []
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            found.append(turns(vlm, parts, DynamicCache(config=vlm.layout.text_config)))
    assert_close(*found)
    if not plan.pruning:
        whole = {
            "input_ids": torch.cat([part["input_ids"] for part in parts], dim=1),
            "pixel_values": torch.cat([parts[0]["pixel_values"], parts[2]["pixel_values"]]),
        }
        with skipping(vlm, plan):
            assert_close(forward(vlm, whole, use_cache=False).logits, found[0])


@plans
def test_a_copied_prefix_serves_two_questions(plan):
    """The usual way to reuse a prompt: copy its cache, ask, copy again, ask something else."""
    vlm, inputs = tiny(), batch("single")
    for fast in (True, False):
        with skipping(vlm, plan, fast=fast):
            prefix = DynamicCache(config=vlm.layout.text_config)
            turns(vlm, [inputs], prefix)
            for question in ([[5, 6]], [[8, 9, 10]]):
                asked = {"input_ids": torch.tensor(question)}
                again = turns(vlm, [asked], copy.deepcopy(prefix))
                fresh = DynamicCache(config=vlm.layout.text_config)
                both = turns(vlm, [inputs, asked], fresh)
                assert_close(again, both[:, -len(question[0]) :])


@plans
def test_a_batch_may_grow_and_shrink(plan):
    """What contrastive and best-of-n decoding do to a cache."""
    vlm, inputs = tiny(), batch("ragged")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    chosen = torch.tensor([5, 0])
    with skipping(vlm, plan):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(chosen)
        kept = mask.repeat_interleave(2, 0)[chosen]
        after = {"input_ids": ids[:2, -2:], "attention_mask": torch.cat([kept, kept[:, -2:]], 1)}
        grown = forward(vlm, after, past_key_values=cache).logits
        twin = forward(vlm, inputs, use_cache=True).past_key_values
        asked = {
            "input_ids": ids[[1, 0, 0], -2:],
            "attention_mask": torch.cat([mask, mask.new_ones(3, 2)], 1),
        }
        direct = forward(vlm, asked, past_key_values=twin).logits
    assert_close(grown, direct[[2, 0]])


def test_what_a_cache_holds_is_shorter():
    vlm, inputs = tiny(), batch("single")
    length, vision = inputs["input_ids"].shape[1], 4
    with skipping(vlm, SkipPlan("early_exit", 4, exit=2)):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    assert [layer.keys.shape[2] for layer in cache.layers] == [length] * 2 + [length - vision] * 2
    with skipping(vlm, SkipPlan("token_pruning", 4, after=1, keep=0.25)):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    assert [layer.keys.shape[2] for layer in cache.layers] == [length] + [length - 3] * 3
    with skipping(vlm, SkipPlan("sublayer", 4, attention=(0, 2))):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    assert [layer.keys.numel() // length for layer in cache.layers] == [1, 16, 1, 16]
