"""ARank of gamma-MoD (Luo et al. 2024, arXiv 2410.13859): attention maps of low rank."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class ARank(Rule):
    """`mean rank(A_h)` over heads and prompts of a layer's attention maps; low is redundant.

    The exact rank of a causal map is full; layers differ in its float32 rank (singular values above
    `n eps s_max`, as in `torch.linalg.matrix_rank`).
    """

    name = "arank"
    modes = ("block",)
    source = "Luo et al. 2024, arXiv:2410.13859, rank of attention maps"
    deviation = "skips the layer for all tokens, where gamma-MoD trains a router that skips some"
    condition = "none"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) mean rank, between 1 and the length of the prompts."""
        return evidence.image_mean(evidence.attention_ranks())
