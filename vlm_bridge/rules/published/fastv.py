"""FastV (Chen et al. 2024, arXiv 2403.06764): drop the vision tokens that are attended to least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class FastV(RuleBase):
    """After layer K keep the share of vision tokens the last token attends to most.

    The tokens are chosen by attention inside the mode `token_pruning`; what a rule has to choose
    is K. FastV fixes K = 2; here every K is tried, by `mean KL(p_pruned || p_full)`.

    Attributes:
        keep: share of vision tokens kept, 1 - R of the paper.
    """

    keep: float = 0.5
    name: str = "fastv"
    modes: tuple[str, ...] = ("token_pruning",)
    source: str = "Chen et al. 2024, arXiv:2403.06764, section 3.3"
    condition: str = "cross-modal"
    requires: str = "candidate runs"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers - 1,) divergence of pruning after every layer from 1 on, nats."""
        return evidence.candidate_kl(mode, keep=self.keep)
