"""AdaSkip (He et al. 2025, arXiv 2501.02336): skip sublayers with output similar to input."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class AdaSkip(Rule):
    """`1 - mean cos(a, b)` of a sublayer's input a and output b, for attention and MLP separately.

    Deviation: the method also scales the input of a skipped sublayer by `mean |b| / |a|`; here a
    skipped sublayer adds nothing, so only the score is the method's.
    """

    name = "adaskip"
    modes = ("sublayer",)
    source = "He et al. 2025, arXiv:2501.02336, input-output similarity of sublayers"
    condition = "geometric"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(2 n_layers,) mean cosine distance over all tokens, in [0, 2]."""
        return np.asarray(1 - evidence.sublayer_geometry().similarity)
