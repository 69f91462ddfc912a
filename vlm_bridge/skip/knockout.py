"""Attention knockout: text does not attend to modality tokens in some layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.in_use import held_by_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import ranges
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.both_ways import BothWays
from vlm_bridge.skip.patching import by_name, check_not_replaced, forward_of, patched
from vlm_bridge.skip.plain import HideAbsent
from vlm_bridge.skip.stamp import Stamp
from vlm_bridge.skip.support import check_run, check_support
from vlm_bridge.skip.tracker import PassTracker


@contextlib.contextmanager
def knocking_out(vlm: VLM, layers: Iterable[int]) -> Iterator[None]:
    """Inside the block text does not see modality tokens in `layers`; nothing else changes.

    The attention weights from text to image, video and audio tokens are zero there, and those that
    stay sum to one; modality tokens are updated as before, and text sees them in the other layers.
    It saves nothing: it is the causal check of where the answer reads the image. A cache filled
    inside the block belongs to it; its sequences must keep their order (`reorder_cache` is not
    followed, but for copies of one prompt, as beams are).

    Raises:
        BridgeError: a layer out of range, no modality tokens, attention that takes no mask for
            each query, or a model that skips already.

    Source:
        Geva et al. 2023, arXiv:2304.14767, section 4 (attention knockout); between modalities:
        Zhang et al. 2024, arXiv:2411.18620.

    Example:
        >>> with knocking_out(vlm, range(8, 16)):  # doctest: +SKIP
        ...     vlm.model.generate(**inputs)
    """
    check_vlm(vlm)
    layout, chosen = vlm.layout, tuple(sorted(set(layers)))
    plan = SkipPlan("freeze", layout.n_layers, layers=chosen)  # which needs the same masks
    with contextlib.ExitStack() as stack:
        stack.enter_context(held_by_plan(vlm.name, layout.layers))
        check_support(vlm, plan)
        words = f"text does not attend to {layout.modality} tokens in layers {ranges(chosen)}"
        tracker = PassTracker(
            layout,
            log=True,
            check=lambda: check_run(vlm, plan),
            stamp=Stamp(f"knockout {chosen}", words, fast=False, any_token=True),
        )
        stack.callback(tracker.restore)
        for module, name, function in tracker.replacements():
            stack.enter_context(patched(module, function, name))
        for index in chosen:
            layer = layout.layers[index]
            check_not_replaced(layer, f"layer {index}")
            hiding = HideAbsent(forward_of(layer), tracker, index, "text", stage=0)
            form = BothWays.where_needed(index, layer, hiding)
            stack.enter_context(patched(layer, by_name(layer, form)))
        yield
