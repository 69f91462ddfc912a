"""`with skipping(vlm, plan):` runs a model under a plan inside the block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.fast import fast_forwards
from vlm_bridge.skip.pass_state import PassTracker
from vlm_bridge.skip.patching import by_name, forward_of, patched
from vlm_bridge.skip.plain import install_plain
from vlm_bridge.skip.pruning import Scored
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.support import check_support

_skipping: WeakSet[nn.Module] = WeakSet()


@contextlib.contextmanager
def skipping(vlm: VLM, plan: SkipPlan, *, fast: bool = True) -> Iterator[PassTracker]:
    """Run `vlm` under `plan` inside the block; its layers are restored when the block ends.

    Works with and without cache (dynamic, sliding or static), left-padded batches, chunked
    prefill, several turns with one cache, and every way to `generate`. A cache filled inside the
    block must not be used outside. Token pruning chooses in the forward pass that carries the
    vision tokens, and its choice holds for later passes. Token positions never change. Compiled
    code runs eagerly inside the block: compile an exported (pruned) model instead.

    Args:
        vlm: the model.
        plan: what to skip, for a decoder of the model's depth.
        fast: do not compute skipped parts. `False` computes everything and then undoes or hides
            it: slow, and the specification against which the fast form is tested.

    Yields:
        The tracker of vision positions, for callers that replay the decoder themselves.

    Raises:
        BridgeError: the plan was made for another number of layers, the model does not support it
            (see `check_support`), or the model is skipping already.

    Example:
        >>> from vlm_bridge.plan.skip_plan import SkipPlan
        >>> plan = SkipPlan("early_exit", n_layers=30, exit=28)
        >>> with skipping(vlm, plan):  # doctest: +SKIP
        ...     vlm.model.generate(**inputs)
    """
    check_support(vlm, plan)
    layout = vlm.layout
    if layout.base in _skipping:
        raise BridgeError(
            f"{vlm.name} is skipping already; make one plan of both with SkipPlan.compose"
        )
    tracker = PassTracker(layout, keep=plan.keep, log=not fast)
    with contextlib.ExitStack() as stack:
        _skipping.add(layout.base)
        stack.callback(_skipping.discard, layout.base)
        # Compiled code might ignore hooks and replaced forwards.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        _forget_rope_deltas(layout.base)
        stack.callback(_forget_rope_deltas, layout.base)
        stack.callback(tracker.install(layout.base).remove)
        for index, operation in enumerate(plan.operations):
            layer = layout.layers[index]
            if fast:
                for module, forward in fast_forwards(index, layer, operation, tracker):
                    stack.enter_context(patched(module, forward))
            else:
                for handle in install_plain(index, layer, operation, tracker):
                    stack.callback(handle.remove)
        if plan.after is not None and plan.kept_only_layers:
            layer = layout.layers[plan.after - 1]
            attention = Sublayers.of(layer).attention
            scored = Scored(plan.after - 1, forward_of(layer), attention, tracker)
            stack.enter_context(patched(layer, by_name(layer, scored)))
        yield tracker


def _forget_rope_deltas(base: Any) -> None:
    """Clear the offset between positions and tokens that Qwen models carry across calls."""
    if hasattr(base, "rope_deltas"):
        base.rope_deltas = None
