"""FastV (Chen et al. 2024, arXiv 2403.06764): drop the least attended vision tokens."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class FastV(Rule):
    """After layer K keep the share `keep` (1 - R) of vision tokens attended most by the last token.

    The mode `token_pruning` chooses the tokens; the rule scores every K by
    `mean KL(p_pruned || p_full)`.
    """

    name = "fastv"
    modes = ("token_pruning",)
    source = "Chen et al. 2024, arXiv:2403.06764, section 3.3"
    deviation = "scores every layer K by divergence, where the authors fix K = 2"
    condition = "cross-modal"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers - 1,) divergence of pruning after every layer from 1 on, nats."""
        return evidence.candidate_kl(mode, keep=self.keep)
