"""Visual attention ratio: layers in which text hardly attends to vision do not need it."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class VAR(Rule):
    """Attention mass of text on vision, `sum_j VAR_j`, over the layers j that the skip affects.

    `early_exit` at b affects layers j >= b, `freeze` of layer l layers j > l, `late_entry` at a
    layers j < a.
    """

    name = "var"
    modes = ("early_exit", "freeze", "late_entry")
    source = "visual attention ratio as in arXiv:2509.25584, cross-modal condition"
    deviation = (
        "sums the ratio over the layers that the skip affects; the paper states a condition, not "
        "a rule"
    )
    condition = "cross-modal"
    origin = "framework"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) attention mass on vision in the layers that the unit affects."""
        var = evidence.profile.values("text", "var")
        before = np.concatenate([[0.0], np.cumsum(var)])  # sum over layers j < l
        after = before[-1] - before  # sum over layers j >= l
        sums = {"early_exit": after[1:-1], "late_entry": before[1:-1], "freeze": after[1:]}
        return np.asarray(sums[mode])
