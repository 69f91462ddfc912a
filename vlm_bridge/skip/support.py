"""Which plans a model supports; every refusal names its reason before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.kinds import CROSS_ATTENTION
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.plan.modes import ENCODER_MODES, MODES, PRUNING_MODES, lacking
from vlm_bridge.plan.selectors import read_selector
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.skip.builds import reason_of_rows, reason_of_wrapping
from vlm_bridge.skip.selectors.visionzip import reason_against_visionzip
from vlm_bridge.skip.stack_layers import reason_against
from vlm_bridge.skip.sublayers import attention_of, check_interface, check_residual
from vlm_bridge.skip.whole import reason_of_kinds


def supported_modes(vlm: VLM, stack: str = DECODER) -> dict[str, str]:
    """Mode -> the reason why `vlm` does not support it in every layer, empty if it does.

    A plan that names fewer layers may be supported even if its mode is not. `stack` is one of
    `vlm.layout.stacks`; encoders have the modes that are not about modality tokens.

    Example:
        >>> supported_modes(vlm)["sublayer"]  # doctest: +SKIP
        ''
    """
    layers = range(vlm.layout.depth(stack))
    modes = MODES if stack == DECODER else ENCODER_MODES
    return {mode: _reason(vlm, mode, layers, stack) for mode in modes}


def check_support(vlm: VLM, plan: SkipPlan) -> None:
    """Raise a `BridgeError` for a plan that `vlm` does not support, or of another model.

    The message names mode, reason and layer, or both models.
    """
    for stack, of_stack in plan.by_stack.items():
        of_stack.check_depth(vlm.layout.depth(stack))
    _check_layout(vlm)
    check_model(vlm, plan)
    for part in plan.parts or (plan,):
        layers = sorted({*part.layers, *part.attention, *part.mlp})
        layers = layers or list(part.scored_layers)
        touched = [i for i, operation in enumerate(part.operations) if operation != Operation()]
        reason = _reason(vlm, part.mode, layers, part.stack, sorted({*touched, *layers}))
        if not reason and part.select and read_selector(part.select)[0].reads == "encoder":
            of_vision = plan.by_stack.get("vision")
            reason = reason_against_visionzip(vlm.layout, of_vision.operations if of_vision else ())
        if reason and not part.is_empty:
            where = "" if part.stack == DECODER else f" in the {STACKS[part.stack]}"
            raise BridgeError(
                f"{type(vlm.model).__name__}: {part.mode}{where} is refused: {reason}"
            )


def supported_layers(vlm: VLM, mode: str, stack: str = DECODER) -> tuple[int, ...]:
    """The layers that a mode of whole layers can skip, each alone."""
    n = vlm.layout.depth(stack)
    return tuple(i for i in range(n) if not _reason(vlm, mode, [i], stack, [i]))


def check_model(vlm: VLM, plan: SkipPlan) -> None:
    """Raise a `BridgeError` if the plan was made for another model, or for other weights of it."""
    if plan.provenance.fingerprint:
        plan.provenance.check_model(vlm.name, vlm.running_fingerprint(quick=True))


def _check_layout(vlm: VLM) -> None:
    """Refuse a model of which a stack or its layers were replaced since it was loaded."""
    there: set[nn.Module] = set()
    found: list[nn.Module | None] = [vlm.model]
    while found:  # far faster than `modules()`
        module = found.pop()
        if module is not None and module not in there:
            there.add(module)
            found += module._modules.values()
    for name, stack in vlm.layout.stacks.items():
        if stack.layers not in there or stack.module not in there:
            raise BridgeError(
                f"the {STACKS[name]} of {vlm.name} was replaced after it was loaded, so that a "
                "plan would change layers that do not run; make the VLM anew with VLM.of"
            )


def _reason(
    vlm: VLM, mode: str, layers: Iterable[int], name: str, touched: Sequence[int] | None = None
) -> str:
    """Why a mode cannot be had, empty if it can.

    `layers` are those whose parts must be told apart, `touched` those that do not run as before.
    """
    layout = vlm.layout
    layers = list(layers)
    changed = layers if touched is None else touched
    modules = {i: layout.stack(name).layers[i] for i in changed}
    if reason := _first(reason_of_wrapping(i, layer) for i, layer in modules.items()):
        return reason
    if mode in ENCODER_MODES and (name != DECODER or layout.encoder_decoder):
        stack = layout.stack(name)
        return reason_against(mode, ((i, stack.layers[i]) for i in layers), stack.width)
    if not MODES[mode].every_token:
        if reason := lacking(mode, layout.modality):
            return reason
        if reason := _without_masks(layout):
            return reason
        if "chunked_attention" in layout.attention_types:
            return (
                "its chunked attention counts positions from the cache, which are wrong in a layer "
                "that runs on some tokens only"
            )
        if CROSS_ATTENTION in layout.attention_types:
            return (
                "it looks at the image through cross-attention, so that no position of its prompt "
                f"holds image features, which '{mode}' skips; use block"
            )
        if reason := _first(reason_of_rows(i, layer) for i, layer in modules.items()):
            return reason
    if reason := reason_of_kinds(layout, mode, changed):
        return reason
    for index in layers:
        layer = layout.layers[index]
        try:
            if mode in ("sublayer", "vision_attention", "vision_mlp"):
                check_residual(layer, int(layout.text_config.hidden_size))
            elif mode in PRUNING_MODES:
                check_interface(attention_of(layer))
        except BridgeError as error:
            return f"layer {index}: {error}"
    return ""


def _first(reasons: Iterable[str]) -> str:
    return next(filter(None, reasons), "")


def check_run(vlm: VLM, plan: SkipPlan) -> None:
    """Raise a `BridgeError` if the model was set to run in a way that `plan` cannot follow.

    Called before every pass: attention, training and checkpointing may change inside a block.
    """
    if all(MODES[part.mode].every_token for part in plan.parts or (plan,)):
        return
    reason = _without_masks(vlm.layout)
    for index, layer in enumerate(vlm.layout.layers):
        if layer.training and getattr(layer, "gradient_checkpointing", False):
            reason = reason or (
                f"gradient checkpointing runs layer {index} again without the pass it belongs to; "
                "switch it off with model.activation_checkpointing_disable()"
            )
    if reason and not plan.is_empty:
        raise BridgeError(f"{type(vlm.model).__name__}: {plan.mode} is refused: {reason}")


def _without_masks(layout: Layout) -> str:
    """Why the attention of the decoder cannot run on some tokens only, empty if it can."""
    attention = str(layout.text_config._attn_implementation)
    if any(word in attention for word in ("flash", "flex", "paged")):
        return (
            f"attention '{attention}' does not take a mask per query and key; load the model "
            "with attn_implementation 'sdpa' or 'eager'"
        )
    masks = ALL_MASK_ATTENTION_FUNCTIONS
    if attention in ALL_ATTENTION_FUNCTIONS and (
        masks.get(attention) not in (masks["sdpa"], masks["eager"])
    ):
        return (
            f"attention '{attention}' may not follow a mask per query and key: none is made for "
            f"it; AttentionMaskInterface.register('{attention}', sdpa_mask) if it follows one, or "
            "load the model with attn_implementation 'sdpa' or 'eager'"
        )
    return ""
