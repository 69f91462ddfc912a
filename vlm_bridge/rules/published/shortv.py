"""ShortV (Yuan et al. 2025, arXiv 2504.00502): freeze vision where the output changes least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class ShortV(RuleBase):
    """Layer contribution `LC_l = mean KL(p_frozen at l || p_full)` at the last position.

    Vision updates of one layer are left out, keys and values of vision stay visible; layers of
    lowest contribution are frozen (its eq. 3, and the code release, about 40 samples).
    """

    name: str = "shortv"
    modes: tuple[str, ...] = ("freeze",)
    source: str = "Yuan et al. 2025, arXiv:2504.00502, eq. 3"
    condition: str = "functional (without labels)"
    requires: str = "candidate runs"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) contribution of every layer, nats."""
        return evidence.candidate_kl(mode)
