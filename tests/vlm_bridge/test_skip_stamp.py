"""A cache belongs to the plan and the form that filled it; another plan refuses it by name."""

from __future__ import annotations

import contextlib
import copy
import re

import pytest
import torch

from tests.vlm_bridge.skip_cases import EXIT, PRUNE, L, assert_close, forward, tiny
from tests.vlm_bridge.tiny import batch
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

FREEZE = SkipPlan("freeze", L, layers=(1,))
SUB = SkipPlan("sublayer", L, attention=(1,), mlp=(2,))


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def filled(vlm, plan=None, fast=True):
    """The cache of a prompt under a plan, or of the full model."""
    block = contextlib.nullcontext() if plan is None else skipping(vlm, plan, fast=fast)
    with block:
        return forward(vlm, batch("single"), use_cache=True).past_key_values


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (SkipPlan("early_exit", L, exit=3), EXIT),
        (PRUNE, SkipPlan("token_pruning", L, after=1, keep=0.25)),
        (EXIT, PRUNE),
        (FREEZE, SkipPlan("freeze", L, layers=(2,))),
        (SkipPlan("block", L, layers=(1,)), SkipPlan("block", L, layers=(2,))),
        (SUB, SkipPlan("block", L)),
    ],
    ids=lambda plan: plan.mode,
)
@pytest.mark.parametrize("fast", [True, False])
def test_a_cache_filled_under_another_plan(before, now, fast):
    vlm = tiny()
    cache = copy.deepcopy(filled(vlm, before, fast))
    told = f"filled under another plan ({before.describe()}); it cannot be used under the plan of"
    length = cache.get_seq_length()
    with skipping(vlm, now, fast=fast), refused(told) as error:
        forward(vlm, {"input_ids": torch.tensor([[5]])}, past_key_values=cache)
    assert "skips nothing" in str(error.value) or now.describe() in str(error.value)
    assert cache.get_seq_length() == length


@pytest.mark.parametrize("fast", [True, False])
def test_a_cache_filled_by_the_other_form(fast):
    vlm = tiny()
    cache, forms = filled(vlm, EXIT, fast), ["plain", "fast"]
    told = f"by the {forms[fast]} form of its plan ({EXIT.describe()}); the {forms[not fast]} form"
    with skipping(vlm, EXIT, fast=not fast), refused(told):
        forward(vlm, {"input_ids": torch.tensor([[5]])}, past_key_values=cache)


@pytest.mark.parametrize("plan", [SkipPlan("block", L, layers=(1,)), SUB])
def test_a_cache_filled_by_the_full_model(plan):
    """Its text ran through the layers that the plan skips."""
    vlm = tiny()
    cache = filled(vlm)
    with skipping(vlm, plan), refused("by the full model, in which its tokens ran through the l"):
        forward(vlm, {"input_ids": torch.tensor([[5]])}, past_key_values=cache)


@pytest.mark.parametrize("plan", [EXIT, FREEZE, PRUNE, SkipPlan("block", L)])
@pytest.mark.parametrize("fast", [True, False])
def test_text_of_the_full_model_is_a_prefix_of_every_prompt(plan, fast):
    """A plan that skips vision only leaves text as it is."""
    vlm, inputs = tiny(), batch("single")
    text = {"input_ids": torch.tensor([[5, 6]])}
    del inputs["attention_mask"]
    whole = dict(inputs, input_ids=torch.cat([text["input_ids"], inputs["input_ids"]], 1))
    cache = forward(vlm, text, use_cache=True).past_key_values
    with skipping(vlm, plan, fast=fast):
        found = forward(vlm, inputs, past_key_values=cache).logits
        assert_close(found, forward(vlm, whole).logits[:, 2:])


@pytest.mark.parametrize("names", [True, False])
def test_an_emptied_cache_may_be_filled_under_another_plan(names):
    """And an output without names gives its cache out, too."""
    vlm, inputs = tiny(), batch("single")
    block, text = SkipPlan("block", L, layers=(1,)), {"input_ids": torch.tensor([[5]])}
    with skipping(vlm, block):
        output = forward(vlm, inputs, use_cache=True, return_dict=names)
        cache = output.past_key_values if names else output[1]
        forward(vlm, text, past_key_values=cache)
    cache.reset()
    with skipping(vlm, EXIT):
        found = forward(vlm, inputs, past_key_values=cache).logits
        assert_close(found, forward(vlm, inputs).logits)
