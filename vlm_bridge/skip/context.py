"""`with skipping(vlm, plan):` - the model skips inside, and is itself again outside."""

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
    """Carry out `plan` on `vlm` for as long as the block lasts.

    Works with and without cache (dynamic, sliding or static), left-padded batches, chunked
    prefill, several turns with a kept cache, and every way to `generate`. A cache filled
    inside must not be used outside.

    Token pruning chooses within the pass that carries the vision tokens; later passes hold
    what it chose. Positions of tokens never change. Code that torch.compile compiled runs
    eagerly inside: compile an exported (pruned) model instead.

    Args:
        vlm: the model; its layers are as before when the block ends, whatever happens.
        plan: what to skip; its depth must be the model's.
        fast: do not compute what is skipped. `False` computes everything and then undoes
            or hides it: the slow ground truth the fast form is tested against.

    Yields:
        The tracker of vision positions, for callers that replay the decoder themselves.

    Raises:
        BridgeError: the plan does not fit the model, the model cannot do it (see
            `check_support`), or it is skipping already.

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
        # Compiled code may not look at hooks and replaced forwards again.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_forgetting_rope_deltas(layout.base))
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
            index = plan.after - 1
            layer = layout.layers[index]
            attention = Sublayers.of(layer).attention
            scored = Scored(index, forward_of(layer), attention, tracker)
            stack.enter_context(patched(layer, by_name(layer, scored)))
        yield tracker


@contextlib.contextmanager
def _forgetting_rope_deltas(base: Any) -> Iterator[None]:
    """Qwen models keep how far positions run ahead of tokens from one call to the next."""
    if hasattr(base, "rope_deltas"):
        base.rope_deltas = None
    try:
        yield
    finally:
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = None
