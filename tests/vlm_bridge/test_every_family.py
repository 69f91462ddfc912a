"""Every image-text class of transformers is refused by name, or runs right; nothing foreign."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vlm_bridge.families.every import KINDS, encoded, run, small
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.describe import describe
from vlm_bridge.skip.support import check_support

PLANS = [
    SkipPlan("block", 4, layers=(1,)),
    SkipPlan("freeze", 4, layers=(0, 2)),
    SkipPlan("vision_attention", 4, layers=(0, 2)),
    SkipPlan("vision_mlp", 4, layers=(0, 2)),
    SkipPlan("early_exit", 4, exit=2),
    SkipPlan("late_entry", 4, entry=1),
    SkipPlan("sublayer", 4, attention=(1,), mlp=(2,)),
    SkipPlan("token_pruning", 4, after=1, keep=0.5),
    SkipPlan("progressive_pruning", 4, stages=((1, 0.75), (2, 0.5)), exit=3),
]


def built(kind: str) -> VLM:
    try:
        model = small(kind)
    except Exception as error:  # the class needs a package or a configuration of its own
        pytest.skip(f"not built: {type(error).__name__}")
    try:
        vlm = VLM.of(kind, model, None)
    except BridgeError:
        pytest.skip("refused")
    if vlm.layout.n_layers != 4:
        pytest.skip(f"built with {vlm.layout.n_layers} layers")
    return vlm


def running(vlm: VLM) -> dict[str, Any]:
    """Inputs with features in the form that the class takes."""
    inputs = encoded(vlm)
    if inputs is None:
        pytest.skip("takes no encoded image, or does not run on these features")
    return inputs


def logits(vlm: VLM, inputs: dict[str, Any], plan: SkipPlan, *, fast: bool) -> torch.Tensor:
    with skipping(vlm, plan, fast=fast):
        return run(vlm, inputs, use_cache=False).logits


def refusal(vlm: VLM, plan: SkipPlan) -> str:
    try:
        check_support(vlm, plan)
    except BridgeError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_runs_right_or_is_refused_by_name(kind):
    """A mode that some layers lack is refused in those, and runs in the others."""
    vlm = built(kind)
    modes = describe(vlm).modes
    inputs = running(vlm)
    for plan in PLANS:
        if said := refusal(vlm, plan):
            assert plan.mode in said
            assert modes[plan.mode], plan.describe()
            with pytest.raises(BridgeError, match=plan.mode), skipping(vlm, plan):
                pass
            continue
        plain = logits(vlm, inputs, plan, fast=False)
        fast = logits(vlm, inputs, plan, fast=True)
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4, msg=plan.describe())
