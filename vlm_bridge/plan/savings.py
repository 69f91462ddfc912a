"""The share of prefill work that a plan saves, estimated from its layers, to order plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS

#: Share of the attention in a layer's work on a token; the MLP has the rest. It lies between the
#: .25 of a wide MLP with grouped keys and the .4 of a plain transformer on a long prompt.
ATTENTION_SHARE = 1 / 3
#: Share of the keys and values in a layer's work on a token; a frozen token still needs them.
KEYS_SHARE = 1 / 12


def saving(plan: SkipPlan, *, modality: float, work: Mapping[str, float] | None = None) -> float:
    """Share of the layers' work in the prefill that a plan saves, in [0, 1].

    An estimate that orders candidates before any is timed; `vlm_bridge.cost` measures. `modality`
    is the share of modality tokens in the prompt, `work` that of each stack in the work of all
    layers; by default the decoder's is counted alone, which refuses plans of encoders.

    Raises:
        BridgeError: `modality` is outside [0, 1], or `work` lacks a stack of the plan.

    Example:
        >>> round(saving(SkipPlan("early_exit", 4, exit=1), modality=0.8), 9)
        0.6
        >>> plan = SkipPlan("block", 4, layers=(1, 2), stack="audio")
        >>> saving(plan, modality=0, work={"audio": 0.5, "decoder": 0.5})
        0.25
    """
    if not 0 <= modality <= 1:
        raise BridgeError(f"modality is a share of the prompt in [0, 1], got {modality}")
    work = {DECODER: 1.0} if work is None else work
    saved = 0.0
    for stack, of_stack in plan.by_stack.items():
        if stack not in work:
            raise BridgeError(f"the share of the {STACKS[stack]} in the work is not known")
        share = modality if stack == DECODER else 0.0
        kept = [keep for _, keep in of_stack.pruning]
        done = sum(_done(layer, share, kept) for layer in of_stack.operations)
        saved += work[stack] * (1.0 - done / of_stack.n_layers)
    return saved


def _done(layer: Operation, modality: float, kept: Sequence[float]) -> float:
    """Share of its full work that a layer does; `kept` has the share of every stage of pruning."""
    if layer.bypass:
        return 0.0
    present = {"all": 1.0, "text": 0.0}.get(layer.tokens)
    present = kept[layer.stage] if present is None else present
    mlp = (1 - ATTENTION_SHARE) * layer.mlp
    of_text = ATTENTION_SHARE * layer.attention + mlp
    attention = ATTENTION_SHARE if layer.modality_attention else KEYS_SHARE
    of_modality = attention * layer.attention + mlp * layer.modality_mlp
    return (1.0 - modality) * of_text + modality * present * of_modality
