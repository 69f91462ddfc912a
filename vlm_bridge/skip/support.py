"""What a model can skip: every refusal by name, before anything is computed."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.sublayers import Sublayers, check_residual

#: Modes that leave masks alone, so that any attention function will do.
#: Modes about vision tokens.
_VISION = tuple(mode for mode in MODES if not MODES[mode].any_attention)


def supported_modes(vlm: VLM) -> dict[str, str]:
    """For every mode of `MODES` the reason why `vlm` cannot do it; empty where it can.

    `sublayer` and `token_pruning` are asked of every layer; a plan that names fewer may be
    possible where the whole mode is not.

    Example:
        >>> supported_modes(vlm)["sublayer"]  # doctest: +SKIP
        ''
    """
    layers = range(vlm.layout.n_layers)
    return {mode: _reason(vlm, mode, layers) for mode in MODES}


def check_support(vlm: VLM, plan: SkipPlan) -> None:
    """Refuse a plan that cannot be carried out on `vlm`.

    Raises:
        BridgeError: with the model class, the mode and the reason, and the layer if it is
            about one.
    """
    plan.check_depth(vlm.layout.n_layers)
    for part in plan.parts or (plan,):
        layers = sorted({*part.attention, *part.mlp})
        if part.mode == "token_pruning":
            layers = [int(part.after or 1) - 1]
        reason = _reason(vlm, part.mode, layers)
        if reason and not part.is_empty:
            raise BridgeError(f"{type(vlm.model).__name__}: {part.mode} is refused: {reason}")


def _reason(vlm: VLM, mode: str, layers: Iterable[int]) -> str:
    layout = vlm.layout
    if mode in _VISION and not layout.vision_ids:
        return "this model has no vision tokens"
    attention = str(layout.text_config._attn_implementation)
    if mode in _VISION and any(word in attention for word in ("flash", "flex", "paged")):
        return (
            f"attention '{attention}' takes no mask that can be cut by token; load the model "
            "with attn_implementation 'sdpa' or 'eager'"
        )
    if mode in _VISION and "chunked_attention" in layout.attention_types:
        return (
            "its chunked attention counts positions from the cache, which a layer that runs on "
            "some tokens only cannot keep right"
        )
    check = {"sublayer": _check_sublayers, "token_pruning": _check_scores}.get(mode)
    if check is not None:
        for layer in layers:
            try:
                check(vlm, layer)
            except BridgeError as error:
                return f"layer {layer}: {error}"
    return ""


def _check_sublayers(vlm: VLM, layer: int) -> None:
    check_residual(vlm.layout.layers[layer], int(vlm.layout.text_config.hidden_size))


def _check_scores(vlm: VLM, layer: int) -> None:
    attention = Sublayers.of(vlm.layout.layers[layer]).attention
    module = sys.modules[type(attention).__module__]
    if not hasattr(module, "ALL_ATTENTION_FUNCTIONS") or not hasattr(attention, "config"):
        raise BridgeError(
            f"{type(attention).__name__} does not go through transformers' AttentionInterface, "
            "so its scores cannot be read"
        )
