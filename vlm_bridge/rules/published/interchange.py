"""Interchange KL (Garcia 2026, arXiv 2605.16234): layers that commute with others."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class Interchange(Rule):
    """Mean `KL(p_swapped || p_full)` of the pairs of neighbours that a layer belongs to.

    A pair is swapped: each of two adjacent layers runs at the other's place. Layers that commute
    with their neighbours score 0.
    """

    name = "interchange"
    modes = ("block",)
    source = "Garcia 2026, arXiv:2605.16234: interchange, the safer of its two swap-KLs"
    deviation = (
        "a layer's score is the mean of its pairs, where the authors score pairs; first answer "
        "token, where they read text"
    )
    condition = "functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) nats."""
        pairs = evidence.interchange_kl()
        padded = np.concatenate([[np.nan], pairs, [np.nan]])
        return np.asarray(np.nanmean([padded[:-1], padded[1:]], axis=0))
