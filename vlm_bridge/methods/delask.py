"""Decoder-layer skipping against hallucination (DeLask): reversing updates are reduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.protocol import Method
from vlm_bridge.rules import Evidence


@dataclass(frozen=True)
class DeLaskMethod(Method):
    """If a layer's update opposes the previous one, the output moves back towards the input.

        u_l = h_{l+1} - h_l;    cos(u_{l-1}, u_l) < threshold:    h_{l+1} <- h_l + (1 - blend) u_l

    Token by token, in prefill and decoding, so keys and values of later layers belong to the
    blended states. Every layer is computed: the method aims at better answers, not faster ones.

    Attributes:
        blend: share of a reversing update that is removed; 1 skips the layer for that token.
        threshold: cosine below which an update reverses.
    """

    blend: float = 0.5
    threshold: float = 0.0
    name = "delask"
    source = "arXiv:2606.00819, reversal rule"
    deviation = (
        "a reversing layer is blended with its own input at a fixed share, 0.5 by default, where "
        "the authors aggregate it partly with the layer before; all layers, where they take "
        "deeper ones; vision-language models, where they test text models; without their code"
    )
    takes: ClassVar[dict[str, str]] = {
        "blend": "a number above 0, at most 1",
        "threshold": "a number from -1 to 1",
    }
    runtime = "vlm_bridge.methods.blending:blending"

    def __post_init__(self) -> None:
        if not 0 < self.blend <= 1 or not -1 <= self.threshold <= 1:
            raise BridgeError(
                "blend must lie in (0, 1] and threshold in [-1, 1], got "
                f"{self.blend} and {self.threshold}"
            )

    def choose(self, evidence: Evidence) -> None:
        """None: it decides for every token while the model runs."""
