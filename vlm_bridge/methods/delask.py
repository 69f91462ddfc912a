"""Decoder-layer skipping against hallucination (DeLask): what reverses is taken back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence
from vlm_bridge.skip.tensors import first_of, like, states_of


@dataclass(frozen=True)
class DeLaskMethod:
    """Where a layer's update turns against the one before, its output goes back to its input.

        u_l = h_{l+1} - h_l;    cos(u_{l-1}, u_l) < threshold:    h_{l+1} <- h_l + (1 - blend) u_l

    Token by token, in the prefill and in every step after it, so that keys and values of later
    layers are those of the blended states and a cache changes nothing. It computes every layer:
    it is a method for better answers, not for faster ones.

    Attributes:
        blend: share of a reversing update that is taken back; 1 skips the layer for that token.
        threshold: cosine below which an update reverses.
    """

    blend: float = 0.5
    threshold: float = 0.0
    name: str = "delask"
    source: str = "arXiv:2606.00819, reversal rule"
    requires: str = "nothing"
    deviation: str = "the share that is taken back is a setting, 0.5 unless it is set"

    def __post_init__(self) -> None:
        if not 0 < self.blend <= 1 or not -1 <= self.threshold <= 1:
            raise BridgeError(
                "blend must lie in (0, 1] and threshold in [-1, 1], got "
                f"{self.blend} and {self.threshold}"
            )

    def choose(self, evidence: Evidence) -> None:
        """It decides for every token while the model runs."""

    @contextlib.contextmanager
    def applying(self, vlm: VLM, plan: SkipPlan | None) -> Iterator[None]:
        """Hook every layer; the update before is that of the same pass."""
        before: list[Tensor] = []

        def hook(index: int) -> Any:
            def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
                came, left = states_of(args, kwargs), first_of(output)
                update = left - came.to(left.device)
                last = before.pop() if index and before else None
                before[:] = [update]
                if last is None:
                    return None
                return like(output, left - self.taken_back(last.to(left.device), update))

            return after

        with contextlib.ExitStack() as stack:
            for index, layer in enumerate(vlm.layout.layers):
                stack.callback(layer.register_forward_hook(hook(index), with_kwargs=True).remove)
            yield

    def taken_back(self, last: Tensor, update: Tensor) -> Tensor:
        """(..., width) what is subtracted from a layer's output, zero where nothing reverses."""
        turn = torch.nn.functional.cosine_similarity(last.float(), update.float(), dim=-1)
        return torch.where((turn < self.threshold)[..., None], self.blend * update, 0.0)
