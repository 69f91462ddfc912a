"""LVLM-PID (arXiv 2603.29676): unique and synergistic vision information, layer by layer."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class LVLMPID(Rule):
    """Unique vision information U_V plus synergy S about the model's own answer, by state.

    early exit b    U_V + S at state b
    freeze l        change of U_V + S by layer l, in absolute value
    """

    name = "lvlm-pid"
    modes = ("early_exit", "freeze")
    source = "arXiv:2603.29676, atoms by layer"
    deviation = (
        "exact on clusters of states with the final answer as target, where the authors learn "
        "couplings of continuous states and decode each layer by the logit lens"
    )
    condition = "informational"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) nats."""
        atoms = evidence.state_atoms()
        needs_vision = atoms.unique_vision + atoms.synergistic
        if mode == "early_exit":
            return np.asarray(needs_vision[1:-1])
        return np.abs(np.diff(needs_vision))
