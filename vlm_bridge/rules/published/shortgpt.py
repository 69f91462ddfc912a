"""ShortGPT (Men et al. 2024, arXiv 2403.03853): remove the layers of lowest block influence."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class ShortGPT(Rule):
    """Block influence `BI_l = 1 - E[cos(h_l, h_{l+1})]` over all tokens (its eq. 1)."""

    name = "shortgpt"
    modes = ("block",)
    source = "Men et al. 2024, arXiv:2403.03853, eq. 1"
    deviation = "no retraining; all tokens of image and question, where the authors read text"
    condition = "geometric"
    stacks = "any"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) mean cosine distance over the tokens of every group."""
        profile = evidence.profile
        groups = [g for g in profile.groups if profile.n_rows[g]]
        weights = [float(profile.n_rows[g]) for g in groups]
        values = [profile.values(g, "cosine_distance") for g in groups]
        return np.asarray(np.average(values, axis=0, weights=weights))
