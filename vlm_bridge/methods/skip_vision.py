"""Skip-Vision: vision tokens that the MLPs hardly change pass by the later ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence
from vlm_bridge.skip import skipping
from vlm_bridge.skip.pass_state import PassState, PassTracker, Rows
from vlm_bridge.skip.patching import Forward, forward_of, patched
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.support import check_support


@dataclass(frozen=True)
class SkipVisionMethod:
    """From layer `after` on, only the vision tokens that its MLP changed most go through MLPs.

    The change of a token x is `|MLP(x)| / |x|`, x what the MLP reads, in layer `after - 1`. The
    share `keep` with the largest stays as it is; the others get no MLP from layer `after` on, and
    none is computed. They still attend and are attended to.

    Attributes:
        after: first layer in which tokens pass the MLP by, at least 1.
        keep: share of vision tokens that keep their MLPs, in (0, 1).
    """

    after: int = 2
    keep: float = 0.5
    name: str = "skip-vision"
    source: str = "arXiv:2503.21817, skip of the feed-forward network"
    requires: str = "nothing"
    deviation: str = (
        "keys and values of skipped tokens stay in the cache, which the paper drops for decoding; "
        "tokens are ranked by feature change, not by a trained token merger"
    )

    def __post_init__(self) -> None:
        if self.after < 1 or not 0 < self.keep < 1:
            raise BridgeError(
                f"after must be at least 1 and keep lie in (0, 1), got {self.after} and {self.keep}"
            )

    def choose(self, evidence: Evidence) -> None:
        """It decides for every image while the model runs.

        Raises:
            BridgeError: the model is not deeper than `after`.
        """
        if self.after >= evidence.n_layers:
            raise BridgeError(
                f"after={self.after} leaves no layer of {evidence.n_layers} to pass by"
            )

    @contextlib.contextmanager
    def applying(self, vlm: VLM, plan: SkipPlan | None) -> Iterator[None]:
        """Replace the MLPs from layer `after - 1` on."""
        n = vlm.layout.n_layers
        check_support(vlm, SkipPlan("sublayer", n, mlp=tuple(range(self.after, n))))
        with contextlib.ExitStack() as stack:
            # A plan that skips nothing: the runtime follows the passes and guards the model.
            tracker = stack.enter_context(skipping(vlm, SkipPlan("block", n)))
            chosen = _Chosen(self.keep, tracker)
            for index in range(self.after - 1, n):
                mlp = Sublayers.of(vlm.layout.layers[index]).mlp
                forward = forward_of(mlp)
                form = _Scoring if index == self.after - 1 else _Passing
                stack.enter_context(patched(mlp, form(forward, chosen)))
            yield


class _Chosen:
    """Which positions go through the MLPs in the pass now running."""

    def __init__(self, keep: float, tracker: PassTracker) -> None:
        self.keep, self.tracker = keep, tracker
        self._of: PassState | None = None
        self._rows: Rows | None = None

    def choose(self, states: Tensor, update: Tensor) -> None:
        now = self.tracker.current
        self._of, self._rows = now, None
        if now.has_vision:
            change = update.float().norm(dim=-1) / states.float().norm(dim=-1).clamp(min=1e-12)
            self._rows = kept_rows(change, now.flags.to(change.device), self.keep)

    def rows(self) -> Rows | None:
        """None: all of them."""
        if self._of is not self.tracker.current:
            raise BridgeError("the layer that ranks the vision tokens did not run in this pass")
        return self._rows


def kept_rows(change: Tensor, vision: Tensor, keep: float) -> Rows:
    """Text, and of every sequence the share `keep` of vision tokens that changed most.

    Args:
        change: (batch, length) change of every token.
        vision: (batch, length) bool.
        keep: share of a sequence's vision tokens, at least one where it has any.
    """
    counts = vision.sum(1)
    quota = torch.where(counts > 0, (counts * keep).round().clamp(min=1), counts)
    ranked = change.masked_fill(~vision, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = ranked.argsort(dim=1)
    wanted = ~vision | (rank < quota[:, None])
    return Rows(wanted, wanted.sum(1).tolist())


class _Scoring:
    def __init__(self, forward: Forward, chosen: _Chosen) -> None:
        self.forward, self.chosen = forward, chosen

    def __call__(self, hidden_states: Tensor) -> Tensor:
        update: Tensor = self.forward(hidden_states)
        self.chosen.choose(hidden_states, update)
        return update


class _Passing:
    def __init__(self, forward: Forward, chosen: _Chosen) -> None:
        self.forward, self.chosen = forward, chosen

    def __call__(self, hidden_states: Tensor) -> Tensor:
        rows = self.chosen.rows()
        if rows is None:
            whole: Tensor = self.forward(hidden_states)
            return whole
        sequence = torch.arange(len(hidden_states), device=hidden_states.device)[:, None]
        update = self.forward(hidden_states[sequence, rows.index])
        return rows.scatter(torch.zeros_like(hidden_states), update)
