"""Shannon invariants (Gutknecht et al. 2025, arXiv 2504.15779): redundancy of adjacent states."""

from __future__ import annotations

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class ShannonInvariants(Rule):
    """`2 - r`, r the redundancy degree of a layer's input and output about the model's own answer.

        r_l = (I(H_l; A) + I(H_{l+1}; A)) / I(H_l, H_{l+1}; A)

    r is 2 where both states hold all the information, and 1 where no piece is in both; no
    decomposition is chosen. H is the last token's state for `block` and the mean vision state for
    `freeze`, in clusters. Where both states together hold next to nothing about the answer, the
    ratio is noise and r is set to 1.
    """

    name = "shannon-invariants"
    modes = ("block", "freeze")
    source = "Gutknecht et al. 2025, arXiv:2504.15779, redundancy degree"
    condition = "informational"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) numbers in [0, 2]."""
        return 2 - evidence.coded_states().redundancy_degrees(
            "text" if mode == "block" else "vision"
        )
