"""LVLM-PID (arXiv 2603.29676): what vision says alone and together with text, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.information import state_atoms
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class LVLMPID(RuleBase):
    """Unique vision information plus synergy about the model's own answer, by state.

        early exit b    U_V + S at state b
        freeze l        what the update of layer l adds to U_V + S, in absolute value

    The source learns its couplings on continuous representations and reads each layer through the
    logit lens; here the same programme (least I over q with the same two marginals with the answer)
    is solved exactly on clusters of the states, and the target is the final answer everywhere.
    """

    name: str = "lvlm-pid"
    modes: tuple[str, ...] = ("early_exit", "freeze")
    source: str = "arXiv:2603.29676, atoms by layer"
    condition: str = "informational"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) nats."""
        atoms = state_atoms(evidence)
        needs_vision = atoms.unique_vision + atoms.synergistic
        if mode == "early_exit":
            return np.asarray(needs_vision[1:-1])
        return np.abs(np.diff(needs_vision))
