"""AdaSkip (He et al. 2025, arXiv 2501.02336): leave out sublayers that hardly turn their input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.sublayers import sublayer_geometry
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class AdaSkip(RuleBase):
    """`1 - mean cos(a, b)` of a sublayer's input a and output b; attention and MLP on their own.

    The method also multiplies what passes a skipped sublayer by `mean |b| / |a|`; here a
    skipped sublayer adds nothing, so the score alone is its own.
    """

    name: str = "adaskip"
    modes: tuple[str, ...] = ("sublayer",)
    source: str = "He et al. 2025, arXiv:2501.02336, input-output similarity of sublayers"
    condition: str = "geometric"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(2 n_layers,) mean cosine distance over all tokens, in [0, 2]."""
        return np.asarray(1 - sublayer_geometry(evidence).similarity)
