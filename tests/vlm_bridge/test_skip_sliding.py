"""Sliding layers (Gemma 3 mixes them with full ones) under generation that crops and reorders."""

from __future__ import annotations

import pytest
import torch

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, tiny
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

L = 4
PRUNE = SkipPlan("token_pruning", L, after=2, keep=0.5)
PLANS = [
    SkipPlan("block", L, layers=(0,)),
    SkipPlan("early_exit", L, exit=0),
    SkipPlan("band", L, entry=1, exit=3),
    SkipPlan.compose(PRUNE, SkipPlan("freeze", L, layers=(0, 2))),
    SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5), (3, 0.25))),
    SkipPlan("progressive_pruning", L, stages=((0, 0.75), (2, 0.25)), select="divprune"),
]
WAYS = {
    "taken back": {"prompt_lookup_num_tokens": 3},
    "static": {"cache_implementation": "static"},
    "static beams": {"cache_implementation": "static", "num_beams": 3},
}


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.describe())
@pytest.mark.parametrize("way", WAYS)
def test_generation_past_the_window(plan, way):
    """Ten tokens, with a window of six; the plain form with a dynamic cache is the truth."""
    vlm = tiny(FAMILIES["Gemma3"], "sdpa")
    inputs = batch(FAMILIES["Gemma3"], SITUATIONS["single"])
    assert vlm.layout.text_config.sliding_window < 10

    def generate(fast, **options):
        with skipping(vlm, plan, fast=fast):
            return vlm.model.generate(
                **inputs, do_sample=False, max_new_tokens=10, min_new_tokens=10, **options
            )

    want = generate(False, num_beams=WAYS[way].get("num_beams", 1))
    for fast in (True, False):
        assert torch.equal(generate(fast, **WAYS[way]), want)
