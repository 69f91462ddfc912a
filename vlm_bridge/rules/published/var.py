"""Visual attention ratio: where text no longer looks at vision, vision is no longer needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class VAR(RuleBase):
    """Attention mass that text still puts on vision: `sum_j VAR_j` over the layers that can read.

    `early_exit` at b is felt in layers j >= b, `freeze` of layer l in layers j > l, `late_entry` at
    a in layers j < a.
    """

    name: str = "var"
    modes: tuple[str, ...] = ("early_exit", "freeze", "late_entry")
    source: str = "visual attention ratio as in arXiv:2509.25584, cross-modal condition"
    condition: str = "cross-modal"
    requires: str = "forward pass"
    origin: Origin = "framework"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) attention mass on vision in the layers where the unit is felt."""
        var = evidence.profile.values("text", "var")
        before = np.concatenate([[0.0], np.cumsum(var)])  # sum over layers j < l
        after = before[-1] - before  # sum over layers j >= l
        if mode == "early_exit":
            return np.asarray(after[1:-1])
        if mode == "late_entry":
            return np.asarray(before[1:-1])
        return np.asarray(after[1:])
