"""Plans of every kind, the tiny model that the tests of skipping run them on, scores of tokens."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from hypothesis import strategies as st

from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.plan.skip_plan import SkipPlan

L = 4
FREEZE, LATE = SkipPlan("freeze", L, layers=(1, 2)), SkipPlan("late_entry", L, entry=1)
EXIT, BAND = SkipPlan("early_exit", L, exit=2), SkipPlan("band", L, entry=1, exit=3)
PRUNE = SkipPlan("token_pruning", L, after=1, keep=0.5)
PROGRESSIVE = SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5), (3, 0.25)))
PLANS = [
    SkipPlan("block", L, layers=(0,)),
    SkipPlan("block", L, layers=(1, 3)),
    SkipPlan("block", L, layers=(0, 1, 2, 3)),
    SkipPlan("freeze", L, layers=(0,)),
    FREEZE,
    SkipPlan("freeze", L, layers=(0, 1, 2, 3)),
    SkipPlan("vision_attention", L, layers=(0, 2)),
    SkipPlan("vision_attention", L, layers=(0, 1, 2, 3)),
    SkipPlan("vision_mlp", L, layers=(1,)),
    SkipPlan("vision_mlp", L, layers=(0, 1, 2, 3)),
    SkipPlan("early_exit", L, exit=0),
    EXIT,
    LATE,
    SkipPlan("late_entry", L, entry=3),
    BAND,
    SkipPlan("sublayer", L, attention=(0, 2)),
    SkipPlan("sublayer", L, mlp=(0, 3)),
    SkipPlan("sublayer", L, attention=(1,), mlp=(1, 2)),
    PRUNE,
    SkipPlan("token_pruning", L, after=2, keep=0.25),
    SkipPlan("token_pruning", L, after=0, keep=0.5, select="divprune"),
    SkipPlan("token_pruning", L, after=0, keep=0.5, select="random:3"),
    SkipPlan("token_pruning", L, after=1, keep=0.5, select="cdpruner"),
    SkipPlan("token_pruning", L, after=2, keep=0.5, select="dart"),
    SkipPlan("token_pruning", L, after=3, keep=0.25, select="uniform"),
    SkipPlan("token_pruning", L, after=1, keep=0.5, select="sparsevlm"),
    SkipPlan("token_pruning", L, after=3, keep=0.25, select="sparsevlm"),
    SkipPlan("token_pruning", L, after=0, keep=0.5, select="visionzip"),
    SkipPlan.compose(
        SkipPlan("token_pruning", L, after=1, keep=0.5, select="divprune"),
        SkipPlan("block", L, layers=(1,)),
        SkipPlan("freeze", L, layers=(2,)),
    ),
    PROGRESSIVE,
    SkipPlan("progressive_pruning", L, stages=((1, 0.5), (3, 0.25))),
    SkipPlan("progressive_pruning", L, stages=((0, 0.75), (2, 0.25)), select="divprune"),
    SkipPlan("progressive_pruning", L, stages=((0, 0.75), (1, 0.5), (3, 0.25)), select="random:3"),
    SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5)), select="cdpruner"),
    SkipPlan("progressive_pruning", L, stages=((0, 0.5), (3, 0.25)), select="dart"),
    SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5)), select="visionzip"),
    SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5), (3, 0.25)), select="sparsevlm"),
    SkipPlan("progressive_pruning", L, stages=((2, 0.5),), entry=1, exit=3),
    SkipPlan("progressive_pruning", L, stages=((2, 0.75), (3, 0.5)), entry=1),
    SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5)), exit=3, select="sparsevlm"),
    SkipPlan("progressive_pruning", L, stages=((2, 0.5),), entry=1, exit=3, select="divprune"),
    SkipPlan.compose(
        SkipPlan("progressive_pruning", L, stages=((2, 0.5),), entry=1, exit=3),
        SkipPlan("sublayer", L, attention=(0, 3), mlp=(1, 2)),
        SkipPlan("freeze", L, layers=(2,)),
    ),
    SkipPlan.compose(PROGRESSIVE, SkipPlan("vision_mlp", L, layers=(0, 1, 2, 3))),
    SkipPlan.compose(PROGRESSIVE, SkipPlan("freeze", L, layers=(3,))),
    SkipPlan.compose(PROGRESSIVE, SkipPlan("sublayer", L, attention=(3,), mlp=(1, 2))),
    SkipPlan.compose(
        SkipPlan("progressive_pruning", L, stages=((1, 0.5), (3, 0.25))),
        SkipPlan("block", L, layers=(1,)),
        SkipPlan("vision_attention", L, layers=(3,)),
    ),
    SkipPlan.compose(
        SkipPlan("progressive_pruning", L, stages=((1, 0.75), (2, 0.5)), select="uniform"),
        SkipPlan("block", L, layers=(1, 2)),
        SkipPlan("freeze", L, layers=(0, 3)),
    ),
    SkipPlan.compose(BAND, SkipPlan("freeze", L, layers=(1,))),
    SkipPlan.compose(EXIT, SkipPlan("sublayer", L, attention=(0, 3), mlp=(2,))),
    SkipPlan.compose(LATE, SkipPlan("block", L, layers=(0, 2))),
    SkipPlan.compose(PRUNE, SkipPlan("freeze", L, layers=(1, 3))),
    SkipPlan.compose(PRUNE, SkipPlan("sublayer", L, attention=(2,), mlp=(0, 3))),
    SkipPlan.compose(FREEZE, SkipPlan("sublayer", L, attention=(1,), mlp=(2,))),
    SkipPlan.compose(SkipPlan("block", L, layers=(0,)), FREEZE),
    SkipPlan.compose(
        SkipPlan("vision_attention", L, layers=(0, 1)), SkipPlan("vision_mlp", L, layers=(1, 2))
    ),
    SkipPlan.compose(PRUNE, SkipPlan("vision_attention", L, layers=(1, 3))),
    SkipPlan.compose(PRUNE, SkipPlan("vision_mlp", L, layers=(0, 2))),
    SkipPlan.compose(BAND, SkipPlan("vision_attention", L, layers=(1,))),
    SkipPlan.compose(
        SkipPlan("vision_attention", L, layers=(0, 2)),
        SkipPlan("sublayer", L, attention=(0,), mlp=(2,)),
    ),
]
plans = pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.describe())


@lru_cache
def tiny(attention="sdpa"):
    return tiny_llava(attention=attention)


def forward(vlm, inputs, **kwargs):
    with torch.no_grad():
        return vlm.model(**inputs, **kwargs)


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@st.composite
def scored(draw):
    """Modality flags and scores of a small batch, and a share to keep; scores have ties."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    flags = [[draw(st.booleans()) for _ in range(length)] for _ in range(batch)]
    scores = [[draw(st.sampled_from([0.0, 0.25, 0.5])) for _ in range(length)] for _ in flags]
    return torch.tensor(flags), torch.tensor(scores), draw(st.sampled_from([0.1, 0.5, 0.75]))
