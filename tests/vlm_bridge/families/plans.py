"""Plans of every mode for the tiny models, layer 0 and both attention types among them."""

from __future__ import annotations

from typing import Any

from tests.vlm_bridge.families.configs import LAYERS
from vlm_bridge.plan.skip_plan import SkipPlan


def _plan(mode: str, **fields: Any) -> SkipPlan:
    return SkipPlan(mode, LAYERS, **fields)


#: mode, or composition of modes -> its plans; the first is the one quick tests take.
PLANS = {
    "block": [_plan("block", layers=(0, 3)), _plan("block", layers=(1,))],
    "freeze": [_plan("freeze", layers=(0, 3)), _plan("freeze", layers=(1, 2))],
    "vision_attention": [
        _plan("vision_attention", layers=(0, 3)),
        _plan("vision_attention", layers=(1, 2)),
    ],
    "vision_mlp": [_plan("vision_mlp", layers=(0, 3)), _plan("vision_mlp", layers=(1, 2))],
    "early_exit": [_plan("early_exit", exit=2), _plan("early_exit", exit=3)],
    "late_entry": [_plan("late_entry", entry=1), _plan("late_entry", entry=3)],
    "band": [_plan("band", entry=1, exit=3), _plan("band", entry=2, exit=3)],
    "sublayer": [_plan("sublayer", attention=(0, 3), mlp=(1,)), _plan("sublayer", mlp=(0, 2))],
    "token_pruning": [
        _plan("token_pruning", after=1, keep=0.5),
        _plan("token_pruning", after=2, keep=0.3),
        _plan("token_pruning", after=0, keep=0.5, select="divprune"),
        _plan("token_pruning", after=2, keep=0.5, select="sparsevlm"),
    ],
    "progressive_pruning": [
        _plan("progressive_pruning", stages=((1, 0.75), (2, 0.5), (3, 0.25))),
        _plan("progressive_pruning", stages=((1, 0.5), (3, 0.25)), select="sparsevlm"),
        _plan("progressive_pruning", stages=((1, 0.5), (3, 0.25)), select="dart"),
        _plan("progressive_pruning", stages=((0, 0.75), (2, 0.3)), select="divprune"),
    ],
    "progressive_pruning+vision_mlp": [
        SkipPlan.compose(
            _plan("progressive_pruning", stages=((1, 0.75), (3, 0.25))),
            _plan("vision_mlp", layers=(0, 2)),
        )
    ],
    "band+freeze": [
        SkipPlan.compose(_plan("band", entry=1, exit=3), _plan("freeze", layers=(1, 2)))
    ],
    "early_exit+sublayer": [
        SkipPlan.compose(
            _plan("early_exit", exit=2), _plan("sublayer", attention=(0, 3), mlp=(1, 2))
        )
    ],
}
