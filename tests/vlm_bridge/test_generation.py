"""Generation under a plan: sampling, beams, kept caches, static caches; fast = plain.

Greedy decoding, and chunks whose logits are compared, are in the test matrix.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.vlm_bridge.families import FAMILIES, FULL, PLANS, SITUATIONS, batch, tiny
from tests.vlm_bridge.families.configs import IMAGE, VIDEO
from vlm_bridge.skip import skipping


def each_family(test, *, but=()):
    """The four families of the fast tier, the others in the slow one."""
    cells = [
        pytest.param(name, marks=() if name in FULL else pytest.mark.slow)
        for name in FAMILIES
        if name not in but
    ]
    return pytest.mark.parametrize("name", cells)(test)


#: Some plan of every mode, and two composed ones.
ALL = [plans[0] for plans in PLANS.values()]
#: Random models like to say image tokens, which a later turn would take for images.
ALWAYS = {"max_new_tokens": 4, "min_new_tokens": 4, "suppress_tokens": [IMAGE, VIDEO]}


def generate(vlm, inputs, **options):
    torch.manual_seed(0)
    return vlm.model.generate(**inputs, **ALWAYS, **options)


def assert_fast_is_plain(name, plans, run):
    """`run(vlm)` says the same under the fast and the plain form of every plan."""
    vlm = tiny(FAMILIES[name])
    for plan in plans:
        with skipping(vlm, plan, fast=False):
            plain = run(vlm)
        with skipping(vlm, plan):
            fast = run(vlm)
        assert torch.equal(fast, plain), plan.describe()


@each_family
@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 1.5},
        {"do_sample": False, "num_beams": 3},
        {"do_sample": False, "prefill_chunk_size": 6},  # cuts through images
    ],
    ids=["sampling", "beams", "prefill in chunks"],
)
def test_a_padded_batch_with_different_numbers_of_images(name, options):
    inputs = batch(FAMILIES[name], SITUATIONS["ragged"])
    assert_fast_is_plain(name, ALL, lambda vlm: generate(vlm, inputs, **options))


def test_sampling_and_beams_are_not_greedy():
    """Else the tests above would be greedy decoding under other names."""
    vlm, inputs = tiny(FAMILIES["LLaVA"]), batch(FAMILIES["LLaVA"], SITUATIONS["ragged"])
    greedy = generate(vlm, inputs, do_sample=False)
    assert not torch.equal(generate(vlm, inputs, do_sample=True, temperature=1.5), greedy)
    assert not torch.equal(generate(vlm, inputs, do_sample=False, num_beams=3), greedy)


def next_turn(family, inputs, said, prompt, seed):
    """Everything said so far, and one more prompt; only new pixels are handed over."""
    new = batch(family, (prompt,), seed=seed)
    ids = torch.cat([said, new.pop("input_ids")], dim=1)
    del new["attention_mask"]
    return {
        **new,
        **family.types(ids),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }


def talk(vlm, family, prompts):
    """Several turns over one cache; the token ids of all of it."""
    inputs, cache = batch(family, prompts[:1]), None
    for turn, prompt in enumerate([*prompts[1:], None], start=1):
        said = generate(
            vlm, inputs, past_key_values=cache, do_sample=False, return_dict_in_generate=True
        )
        cache = said.past_key_values
        if prompt is None:
            return said.sequences
        inputs = next_turn(family, inputs, said.sequences, prompt, turn)
    raise AssertionError


@each_family
def test_turns_with_a_kept_cache(name):
    prompts = ("ttIttt", "ttt", "tt")
    assert_fast_is_plain(name, ALL, lambda vlm: talk(vlm, FAMILIES[name], prompts))


@pytest.mark.parametrize("name", ["LLaVA", "DeepSeek-VL", "Gemma3", "InternVL"])
def test_a_second_image_in_a_later_turn(name):
    prompts = ("ttIttt", "tIt", "tt")
    assert_fast_is_plain(name, ALL, lambda vlm: talk(vlm, FAMILIES[name], prompts))


@partial(each_family, but=("PaliGemma",))  # not causal: a later turn changes the first
def test_a_kept_cache_is_worth_a_fresh_start(name):
    """The second turn over a cache says what the whole talk without one says."""
    family = FAMILIES[name]
    vlm = tiny(family)
    first = batch(family, ("ttIttt",))
    for mode, (plan, *_) in PLANS.items():
        if plan.pruning:  # what is kept hangs on the last token of each pass
            continue
        with skipping(vlm, plan):
            kept = talk(vlm, family, ("ttIttt", "ttt"))
            ids = kept[:, : -ALWAYS["max_new_tokens"]]
            fresh = {
                **first,
                **family.types(ids),
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
            }
            assert torch.equal(generate(vlm, fresh, do_sample=False), kept), mode


@each_family
def test_a_static_cache(name):
    inputs = batch(FAMILIES[name], SITUATIONS["padded"])
    options = {"do_sample": False, "cache_implementation": "static", "disable_compile": True}
    assert_fast_is_plain(name, ALL, lambda vlm: generate(vlm, inputs, **options))
    vlm = tiny(FAMILIES[name])
    for plan in ALL:
        with skipping(vlm, plan):
            static = generate(vlm, inputs, **options)
            assert torch.equal(static, generate(vlm, inputs, do_sample=False)), plan.describe()


def test_a_generated_image_token_is_text():
    """No pixels come with it, so it is not skipped."""
    family = FAMILIES["LLaVA"]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["single"])
    more = torch.cat([inputs["input_ids"], torch.tensor([[IMAGE, 9]])], dim=1)
    for plan in ALL:
        outs = []
        for fast in (True, False):
            with skipping(vlm, plan, fast=fast), torch.no_grad():
                begun = vlm.model(**inputs, use_cache=True)
                outs.append(
                    vlm.model(
                        input_ids=more[:, -2:],
                        past_key_values=begun.past_key_values,
                        use_cache=True,
                    ).logits
                )
        torch.testing.assert_close(*outs, atol=1e-4, rtol=1e-4)
