"""Family x mode x attention: fast = plain, on padded, cached, chunked and ragged batches.

A cell holds logits to 1e-4 in float32 and greedy tokens exactly, or is a refusal with its exact
words; the fourteen families have none. The models are tiny and random, their classes are the
real ones.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import pytest
import torch

from tests.vlm_bridge.families import (
    FAMILIES,
    FULL,
    PLANS,
    SITUATIONS,
    UNLISTED,
    batch,
    chunks,
    tiny,
)
from tests.vlm_bridge.families.configs import IMAGE
from tests.vlm_bridge.families.inputs import BY_TOKEN
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import MODES
from vlm_bridge.skip import skipping
from vlm_bridge.skip.support import supported_modes

CELLS = [
    # The four have every cell in the fast tier, the others eager attention in the slow one.
    pytest.param(*cell, marks=() if cell[2] == "sdpa" or cell[0] in FULL else pytest.mark.slow)
    for cell in itertools.product(FAMILIES, PLANS, ("sdpa", "eager"))
]


def the_four_fast():
    """Every family, those beyond the four in the slow tier."""
    return [pytest.param(n, marks=() if n in FULL else pytest.mark.slow) for n in FAMILIES]


@lru_cache
def inputs_of(family, situation):
    """Model inputs and where they may be cut: behind the last image token of the batch."""
    inputs = batch(family, SITUATIONS[situation])
    images = (inputs["input_ids"] == IMAGE).nonzero()[:, 1]
    return inputs, int(images.max()) + 1


def forward(vlm, inputs, **options):
    """One pass; what Qwen models remember of the pass before is forgotten first."""
    if options.get("past_key_values") is None and hasattr(vlm.layout.base, "rope_deltas"):
        vlm.layout.base.rope_deltas = None
    with torch.no_grad():
        return vlm.model(**inputs, **options)


def in_chunks(vlm, inputs, split):
    """Logits of two passes with a cache between them."""
    first, second = chunks(vlm, inputs, split)
    begun = forward(vlm, first, use_cache=True)
    rest = forward(vlm, second, use_cache=True, past_key_values=begun.past_key_values)
    return torch.cat([begun.logits, rest.logits], dim=1)


def greedy(vlm, inputs):
    return vlm.model.generate(**inputs, do_sample=False, max_new_tokens=4, min_new_tokens=4)


def check(vlm, family, plan, inputs, split):
    """One plan in one situation; padded positions are nobody's business."""
    real = inputs["attention_mask"].bool()

    def close(a, b):
        torch.testing.assert_close(a[real], b[real], atol=1e-4, rtol=1e-4)

    with skipping(vlm, plan, fast=False):
        whole = forward(vlm, inputs, use_cache=False).logits
        parts = in_chunks(vlm, inputs, split)
        tokens = greedy(vlm, inputs)
    if family.causal and not plan.pruning:  # pruning hangs on the last token of each pass
        close(parts, whole)
    with skipping(vlm, plan):
        close(forward(vlm, inputs, use_cache=False).logits, whole)
        close(forward(vlm, inputs, use_cache=True).logits, whole)
        close(in_chunks(vlm, inputs, split), parts)
        assert torch.equal(greedy(vlm, inputs), tokens)


def check_cell(family, attention, plans, situations=tuple(SITUATIONS)):
    vlm = tiny(family, attention)
    for plan, situation in itertools.product(plans, situations):
        check(vlm, family, plan, *inputs_of(family, situation))


@pytest.mark.parametrize(("name", "mode", "attention"), CELLS)
def test_fast_equals_plain(name, mode, attention):
    # Without padding, and with different lengths and numbers of images, is most of it.
    situations = tuple(SITUATIONS) if name in FULL else ("single", "ragged")
    check_cell(FAMILIES[name], attention, PLANS[mode][:1], situations)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode", "attention"), CELLS)
def test_fast_equals_plain_everywhere(name, mode, attention):
    check_cell(FAMILIES[name], attention, PLANS[mode][1:] or PLANS[mode])


@pytest.mark.parametrize("name", the_four_fast())
def test_an_image_behind_a_past(name):
    """Text first, the image in a later chunk, neither mask nor positions given."""
    family = FAMILIES[name]
    vlm = tiny(family)
    inputs = batch(family, ("ttIttt",))
    parts = [
        {key: value[:, :2] for key, value in inputs.items() if key in BY_TOKEN},
        {
            key: value[:, 2:] if key in BY_TOKEN else value
            for key, value in inputs.items()
            if key != "attention_mask"
        },
    ]
    for plan in itertools.chain(*PLANS.values()):
        found = []
        for fast in (False, True):
            cache = None
            with skipping(vlm, plan, fast=fast):
                for part in parts:
                    output = forward(vlm, part, use_cache=True, past_key_values=cache)
                    cache = output.past_key_values
                    found.append(output.logits)
        for plain, fast in zip(found[:2], found[2:], strict=True):
            torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


CHUNKED = (
    "its chunked attention counts positions from the cache, which are wrong in a layer that runs "
    "on some tokens only"
)
EXPERTS = (
    "layer 1: Llama4TextDecoderLayer does not run if its attention and its MLP return zero "
    "(ValueError: not enough values to unpack (expected 2, got 1))"
)
#: Cells that are refused, and why: of these families only Llama4 has any.
REFUSED = {
    ("Llama4", "freeze"): CHUNKED,
    ("Llama4", "vision_attention"): CHUNKED,
    ("Llama4", "vision_mlp"): CHUNKED,
    ("Llama4", "early_exit"): CHUNKED,
    ("Llama4", "late_entry"): CHUNKED,
    ("Llama4", "band"): CHUNKED,
    ("Llama4", "token_pruning"): CHUNKED,
    ("Llama4", "progressive_pruning"): CHUNKED,
    ("Llama4", "sublayer"): EXPERTS,
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", PLANS)
@pytest.mark.parametrize("name", UNLISTED)
def test_families_nobody_listed(name, mode):
    family = UNLISTED[name]
    part = mode.partition("+")[0]
    if (name, part) not in REFUSED:
        check_cell(family, "sdpa", PLANS[mode])
        return
    vlm = tiny(family)
    with pytest.raises(BridgeError) as error, skipping(vlm, PLANS[mode][0]):
        pass
    kind = type(vlm.model).__name__
    assert str(error.value) == f"{kind}: {part} is refused: {REFUSED[name, part]}"


@pytest.mark.parametrize("name", UNLISTED)
def test_supported_modes_of_families_nobody_listed(name):
    assert supported_modes(tiny(UNLISTED[name])) == {
        mode: REFUSED.get((name, mode), "") for mode in MODES
    }


def test_every_mode_is_in_the_matrix():
    assert set(MODES) <= set(PLANS)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_cell_is_refused(name):
    assert supported_modes(tiny(FAMILIES[name])) == dict.fromkeys(MODES, "")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plans_matter(name):
    """A skip that changed nothing would pass every comparison of fast with plain."""
    vlm = tiny(FAMILIES[name])
    inputs, _ = inputs_of(FAMILIES[name], "padded")
    real = inputs["attention_mask"].bool()
    full = forward(vlm, inputs).logits[real]
    for plan in [plan for plans in PLANS.values() for plan in plans]:
        with skipping(vlm, plan, fast=False):
            skipped = forward(vlm, inputs).logits[real]
        assert (full - skipped).abs().max() > 1e-2, plan.describe()
