"""Skip-Vision (arXiv 2503.21817): vision tokens bypass an MLP that hardly changes them."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class SkipVision(Rule):
    """`mean |MLP(x)| / |x|` over vision tokens x: how much a layer's MLP changes their features."""

    name = "skip-vision"
    modes = ("freeze",)
    source = "arXiv:2503.21817, feature change of vision tokens by the feed-forward network"
    deviation = (
        "freezes attention and MLP of all vision tokens in the layers that change them least, "
        "where the authors fix by place which tokens bypass every MLP, keep their attention, add "
        "learned summary tokens and fine-tune"
    )
    condition = "proximal"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) mean relative change, at least 0."""
        return evidence.sublayer_geometry().vision_change[1::2].copy()
