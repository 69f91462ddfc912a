"""Decoder-layer skipping against hallucination (DeLask): reversing updates are reduced."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.protocol import Method
from vlm_bridge.rules import Evidence


@dataclass(frozen=True)
class DeLaskMethod(Method):
    """Where a layer's update opposes the previous one, its output moves back to its input.

        u_l = h_{l+1} - h_l;    cos(u_{l-1}, u_l) < threshold:    h_{l+1} <- h_l + (1 - blend) u_l

    Token by token, in the prefill and in every later step, so that keys and values of later
    layers belong to the blended states and a cache changes nothing. It computes every layer: the
    method aims at better answers, not at faster ones.

    Attributes:
        blend: share of a reversing update that is removed; 1 skips the layer for that token.
        threshold: cosine below which an update reverses.
    """

    blend: float = 0.5
    threshold: float = 0.0
    name = "delask"
    source = "arXiv:2606.00819, reversal rule"
    deviation = "the removed share of an update is a setting, 0.5 by default"
    runtime = "vlm_bridge.methods.blending:blending"

    def __post_init__(self) -> None:
        if not 0 < self.blend <= 1 or not -1 <= self.threshold <= 1:
            raise BridgeError(
                "blend must lie in (0, 1] and threshold in [-1, 1], got "
                f"{self.blend} and {self.threshold}"
            )

    def choose(self, evidence: Evidence) -> None:
        """None: it decides for every token while the model runs."""
