"""Shannon invariants (Gutknecht et al. 2025, arXiv 2504.15779): redundancy of adjacent states."""

from __future__ import annotations

from typing import Literal

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class ShannonInvariants(Rule):
    """`2 - r`, r the redundancy degree of a layer's input and output about the model's own answer.

        r_l = (I(H_l; A) + I(H_{l+1}; A)) / I(H_l, H_{l+1}; A)

    r is 2 if both states contain all the information, 1 if they share none, or if their joint
    information is so small that the ratio is noise. H is the last token's state for `block` and the
    mean vision state for `freeze`, in clusters.
    """

    name = "shannon-invariants"
    modes = ("block", "freeze")
    source = "Gutknecht et al. 2025, arXiv:2504.15779, redundancy degree"
    deviation = "clusters of the states; the publication ranks no layers to skip"
    condition = "informational"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) numbers in [0, 2]."""
        states: Literal["text", "vision"] = "text" if mode == "block" else "vision"
        return 2 - evidence.coded_states().redundancy_degrees(states)
