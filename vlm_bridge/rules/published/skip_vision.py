"""Skip-Vision (arXiv 2503.21817): vision tokens that the MLP hardly changes may pass it by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.sublayers import sublayer_geometry
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class SkipVision(RuleBase):
    """`mean |MLP(x)| / |x|` over vision tokens x: how much a layer's MLP changes their features.

    The published method lets redundant vision tokens pass the MLP by and drops their keys and
    values afterwards. No mode here leaves the MLP out for vision alone; `freeze` also leaves out
    their attention, which the score does not see.
    """

    name: str = "skip-vision"
    modes: tuple[str, ...] = ("freeze",)
    source: str = "arXiv:2503.21817, feature change of vision tokens by the feed-forward network"
    condition: str = "proximal"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) mean relative change, at least 0."""
        return sublayer_geometry(evidence).vision_change[1::2].copy()
