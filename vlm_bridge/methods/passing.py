"""Skip-Vision at run time: one layer ranks the vision tokens, which bypass later MLPs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.skip_vision import SkipVisionMethod
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.skip.pass_state import PassState, Rows
from vlm_bridge.skip.patching import Forward, forward_of, patched
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tracker import PassTracker


@contextlib.contextmanager
def passing_by(vlm: VLM, method: SkipVisionMethod, plan: SkipPlan | None) -> Iterator[None]:
    """Replace the MLPs from layer `method.after - 1` on."""
    n, first = vlm.layout.n_layers, method.after - 1
    check_support(vlm, SkipPlan("sublayer", n, mlp=tuple(range(method.after, n))))
    with contextlib.ExitStack() as stack:
        # A plan that skips nothing: the skip runtime tracks the passes and guards the model.
        tracker = stack.enter_context(skipping(vlm, SkipPlan("block", n)))
        chosen = _Chosen(method.keep, tracker)
        for index in range(first, n):
            mlp = Sublayers.of(vlm.layout.layers[index]).mlp
            form = chosen.rank if index == first else chosen.update
            stack.enter_context(patched(mlp, partial(form, forward_of(mlp))))
        yield


class _Chosen:
    """The positions that go through the MLPs in the current pass; `_rows` None: all of them."""

    def __init__(self, keep: float, tracker: PassTracker) -> None:
        self.keep, self.tracker = keep, tracker
        self._of: PassState | None = None
        self._rows: Rows | None = None

    def rank(self, forward: Forward, hidden_states: Tensor) -> Tensor:
        """The update of the MLP `forward`, which ranks the vision tokens."""
        update: Tensor = forward(hidden_states)
        self._of, self._rows = self.tracker.current, None
        if self._of.has_modality:
            lengths = hidden_states.float().norm(dim=-1).clamp(min=1e-12)
            change = update.float().norm(dim=-1) / lengths
            self._rows = kept_rows(change, self._of.flags.to(change.device), self.keep)
        return update

    def update(self, forward: Forward, hidden_states: Tensor) -> Tensor:
        """The update of the MLP `forward` at the chosen positions, zero elsewhere."""
        if self._of is not self.tracker.current:
            raise BridgeError("the layer that ranks the vision tokens did not run in this pass")
        if self._rows is None:
            whole: Tensor = forward(hidden_states)
            return whole
        update = forward(self._rows.gather(hidden_states))
        return self._rows.among_zeros(update, hidden_states.shape[1])


def kept_rows(change: Tensor, vision: Tensor, keep: float) -> Rows:
    """All text tokens, and the share `keep` of each sequence's vision tokens that changed most.

    `change` and the mask `vision` are (batch, length); at least one vision token is kept.
    """
    counts = vision.sum(1)
    quota = torch.where(counts > 0, (counts * keep).round().clamp(min=1), counts)
    ranked = change.masked_fill(~vision, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = ranked.argsort(dim=1)
    wanted = ~vision | (rank < quota[:, None])
    return Rows(wanted, wanted.sum(1).tolist())
