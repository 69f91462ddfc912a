"""`with skipping(vlm, plan):` runs a model under a plan inside the block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from torch import nn

from vlm_bridge.model.given import given_plan
from vlm_bridge.model.in_use import held_by_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.model.wrap import given_vlm
from vlm_bridge.plan.selectors import read_selector
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.skip.eager import eager
from vlm_bridge.skip.encoder_decoder import EncoderDecoderTracker
from vlm_bridge.skip.fast import fast_forwards
from vlm_bridge.skip.patching import Forward, by_name, check_not_replaced, forward_of, patched
from vlm_bridge.skip.plain import plain_forwards
from vlm_bridge.skip.pruning import Scored, Selecting
from vlm_bridge.skip.selectors import choose_by
from vlm_bridge.skip.selectors.raters import RATERS
from vlm_bridge.skip.selectors.visionzip import Received
from vlm_bridge.skip.stack_layers import fast_layer, plain_layer
from vlm_bridge.skip.stamp import Stamp
from vlm_bridge.skip.support import check_run, check_support
from vlm_bridge.skip.thin import try_halves
from vlm_bridge.skip.tracker import PassTracker


@contextlib.contextmanager
def skipping(
    model: VLM | nn.Module, plan: SkipPlan | str, *, fast: bool = True
) -> Iterator[PassTracker]:
    """Run a model under `plan` inside the block; its layers are restored when the block ends.

    Works with and without cache (dynamic, sliding or static), left-padded batches, chunked
    prefill, several turns with one cache, several threads, and every way to `generate` but
    continuous batching. Token pruning chooses in the forward pass that carries the modality tokens,
    and its choice holds for later passes. Token positions never change. Hidden states that the
    model gives out have all tokens; attention weights of the fast form are those of the tokens that
    run in a layer, zero where it is skipped, so that rows and columns may be fewer than tokens.

    A cache filled inside a block may be used in another block of the same plan and form; under
    another plan it is refused. Outside any block it must not be used: the full model refuses it
    where tokens are absent from a layer, and may not notice otherwise. A cache that the full model
    filled may be used in a block if it holds text only and the plan skips nothing for text; plans
    that do, such as `block` and `sublayer`, refuse it.

    Code compiled with `torch.compile`, before or inside the block, runs eagerly inside it; compile
    an exported (pruned) model instead. Traces and exports made inside are refused. What
    `torch.jit.trace` has made before runs as it was traced: a trace of the full model does not skip
    inside the block.

    A plan of an encoder acts wherever its layers run, also in `model.get_image_features` and the
    like. Attention weights of a skipped layer of an encoder, or of an encoder-decoder, are left
    out of what the model collects.

    Args:
        model: a `VLM`, or a transformers model, as PEFT or `torch.compile` wraps it, too.
        plan: what to skip, for stacks of the model's depths; in words, or the path of its file.
        fast: do not compute skipped parts. `False` computes everything and then undoes or hides
            it: slow, and the specification against which the fast form is tested.

    Yields:
        The tracker of modality positions, for callers that replay the decoder themselves.

    Raises:
        BridgeError: the plan was made for another number of layers or another stack, the model does
            not support it (see `check_support`), another tool replaced the forward of a layer, or
            the model is skipping already. Inside the block: a copy of the model is made, its
            decoder is called without its model, or it is called in a way that the plan cannot
            follow.

    Example:
        >>> from vlm_bridge.plan.skip_plan import SkipPlan
        >>> plan = SkipPlan("early_exit", n_layers=30, exit=28)
        >>> with skipping(vlm, plan):  # doctest: +SKIP
        ...     vlm.model.generate(**inputs)
        >>> with skipping(model, "freeze 2-11"):  # doctest: +SKIP
        ...     model.generate(**inputs)
    """
    vlm = given_vlm(model)
    plan = given_plan(vlm, plan)
    layout = vlm.layout
    with contextlib.ExitStack() as stack:
        # Compiled code might ignore hooks and replaced forwards.
        stack.enter_context(eager)
        stack.enter_context(held_by_plan(vlm.name, layout.layers))
        check_support(vlm, plan)
        decoder = plan.by_stack.get(DECODER) or SkipPlan("block", layout.n_layers)
        tracker = (EncoderDecoderTracker if layout.encoder_decoder else PassTracker)(
            layout,
            keep=[share for _, share in decoder.pruning],
            log=not fast,
            check=partial(check_run, vlm, plan),
            stamp=Stamp.of(plan, fast=fast, modality=layout.modality),
        )
        halved = (i for i, it in enumerate(decoder.operations) if not it.modality_attention)
        try_halves(layout, halved if fast else ())
        stack.callback(tracker.restore)
        # The tracker's own forms of the same functions run around those of the encoder.
        of_encoder = Received(tracker).replacements() if _reads_encoder(decoder) else ()
        for module, name, function in of_encoder:
            stack.enter_context(patched(module, function, name))
        for module, name, function in tracker.replacements():
            stack.enter_context(patched(module, function, name))
        for layer, name, module, forward in _replacements(plan, tracker, fast=fast):
            if module in (layer, *layer.children()):
                check_not_replaced(module, name)
            stack.enter_context(patched(module, forward))
        for index, stage in _selecting(decoder).items():
            layer = layout.layers[index]
            check_not_replaced(layer, f"layer {index}")
            choose = choose_by(str(decoder.select))
            selecting = Selecting(forward_of(layer), tracker, stage, choose)
            stack.enter_context(patched(layer, by_name(layer, selecting)))
        yield tracker


def _reads_encoder(plan: SkipPlan) -> bool:
    """Whether a stage of pruning chooses by the attention in the vision encoder."""
    return bool(_selecting(plan)) and read_selector(str(plan.select))[0].reads == "encoder"


def _selecting(plan: SkipPlan) -> dict[int, int]:
    """Layer -> the stage of pruning that chooses from its input."""
    if plan.scored_layers or not plan.kept_only_layers:
        return {}
    stages = enumerate(depth for depth, _ in plan.pruning)
    return {depth: stage for stage, depth in stages if depth < plan.n_layers}


def _scored(plan: SkipPlan, tracker: PassTracker, *, fast: bool) -> dict[int, Scored]:
    """Layer -> its form that gives a stage of pruning the scores."""
    if not plan.kept_only_layers or not plan.scored_layers:
        return {}
    layers, raters = tracker.layout.layers, RATERS[str(plan.select)]
    return {
        index: Scored.of(index, layers[index], tracker, raters, stage=stage, cut=fast and stage > 0)
        for stage, index in enumerate(plan.scored_layers)
        if index + 1 < plan.n_layers
    }


def _replacements(
    plan: SkipPlan, tracker: PassTracker, *, fast: bool
) -> Iterator[tuple[nn.Module, str, nn.Module, Forward]]:
    """(layer, its name, module of it, replacement of that module's forward) of every stack."""
    for name, of_stack in plan.by_stack.items():
        stack = tracker.layout.stack(name)
        of = "" if name == DECODER else f" of the {STACKS[name]}"
        scored = _scored(of_stack, tracker, fast=fast) if name == DECODER else {}
        for index, operation in enumerate(of_stack.operations):
            layer = stack.layers[index]
            if name == DECODER and not tracker.layout.encoder_decoder:
                forms = fast_forwards if fast else plain_forwards
                made = forms(index, layer, operation, tracker, scored.get(index))
            else:
                form = fast_layer if fast else plain_layer
                made = form(index, layer, operation, stack.width)
            for module, forward in made:
                yield layer, f"layer {index}{of}", module, forward
