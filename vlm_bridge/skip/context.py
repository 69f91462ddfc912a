"""`with skipping(vlm, plan):` - the model skips inside, and is itself again outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from vlm_bridge.plan import SkipPlan
from vlm_bridge.skip.fast import Forward, fast_forward
from vlm_bridge.skip.passes import PassTracker
from vlm_bridge.skip.plain import install_plain
from vlm_bridge.vlm import VLM


@contextlib.contextmanager
def skipping(vlm: VLM, plan: SkipPlan, *, fast: bool = True) -> Iterator[PassTracker]:
    """Carry out `plan` on `vlm` for as long as the block lasts.

    Works with and without cache, left-padded batches, chunked prefill and `generate`.
    A cache filled inside must not be used outside.

    Args:
        vlm: the model; its layers are as before when the block ends, whatever happens.
        plan: what to skip; its depth must be the model's.
        fast: do not compute what is skipped. `False` computes everything and then undoes
            or hides it: the slow ground truth the fast form is tested against.

    Yields:
        The tracker of vision positions, for callers that replay the decoder themselves.

    Raises:
        BridgeError: the plan does not fit the model.

    Example:
        >>> from vlm_bridge.plan import SkipPlan
        >>> plan = SkipPlan("early_exit", n_layers=30, exit=28)
        >>> with skipping(vlm, plan):  # doctest: +SKIP
        ...     vlm.model.generate(**inputs)
    """
    plan.fit(vlm.layout.n_layers)
    tracker = PassTracker(vlm.layout)
    with contextlib.ExitStack() as stack:
        stack.callback(tracker.install(vlm.layout.base).remove)
        if fast:
            for index in plan.layers or plan.text_only_layers:
                layer = vlm.layout.layers[index]
                replacement = fast_forward(plan, index, layer.forward, tracker)
                stack.enter_context(patched(layer, replacement))
        else:
            for handle in install_plain(vlm.layout, plan, tracker):
                stack.callback(handle.remove)
        yield tracker


@contextlib.contextmanager
def patched(layer: nn.Module, forward: Forward) -> Iterator[None]:
    """Replace `layer.forward` for a while; one set on the instance before comes back."""
    had = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if had is None:
            del layer.forward
        else:
            layer.forward = had
