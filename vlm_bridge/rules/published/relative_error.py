"""Relative error propagation (Basu et al. 2026, arXiv 2603.20991): layers that pass errors on."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class RelativeError(Rule):
    """`|rho_l - 1|`, rho_l the ratio of a layer's relative output error to its input error.

        rho_l = (|h'_{l+1} - h_{l+1}| / |h_{l+1}|) / (|h'_l - h_l| / |h_l|)

    h are the states of a full pass, h' those of a second one whose input is perturbed; norms are
    over all tokens of a question. A layer with rho 1 treats an error as the identity would.
    """

    name = "relative-error"
    modes = ("block",)
    source = "Basu et al. 2026, arXiv:2603.20991: layers ranked by how far rho is from one"
    deviation = (
        "the second pass has noise of 1 % of each token's length on the input of layer 0; the "
        "abstract does not say where the authors' error comes from"
    )
    condition = "functional (local)"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) distance of rho from one, rho a geometric mean over images."""
        rho = evidence.image_mean(np.log(evidence.error_ratios()))
        return np.asarray(np.abs(np.exp(rho) - 1.0))
