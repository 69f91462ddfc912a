"""ShortGPT (Men et al. 2024, arXiv 2403.03853): remove the layers of lowest block influence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators import Profile


@dataclass(frozen=True)
class ShortGPT:
    """Block influence `BI_l = 1 - E[cos(h_l, h_{l+1})]` over all tokens (its eq. 1)."""

    name: str = "shortgpt"
    mode: str = "block"
    source: str = "Men et al. 2024, arXiv:2403.03853, eq. 1"
    condition: str = "geometric"

    def score(self, profile: Profile) -> np.ndarray:
        """(n_layers,) mean cosine distance over the tokens of every group."""
        groups = [g for g in profile.groups if profile.n_rows[g]]
        weights = [float(profile.n_rows[g]) for g in groups]
        values = [profile.values(g, "cosine_distance") for g in groups]
        return np.asarray(np.average(values, axis=0, weights=weights))
