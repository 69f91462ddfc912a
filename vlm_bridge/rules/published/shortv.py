"""ShortV (Yuan et al. 2025, arXiv 2504.00502): freeze vision in layers of low contribution."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class ShortV(Rule):
    """Layer contribution `LC_l = mean KL(p_frozen at l || p_full)` at the last position.

    Layer l's vision updates are skipped while its vision keys and values stay visible (eq. 3; the
    code release uses about 40 samples).
    """

    name = "shortv"
    modes = ("freeze",)
    source = "Yuan et al. 2025, arXiv:2504.00502, eq. 3"
    deviation = "none in the score; the number of questions is yours, about 40 in the authors' code"
    condition = "functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) contribution of every layer, nats."""
        return evidence.candidate_kl(mode)
