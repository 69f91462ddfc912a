"""Gromov et al. 2024 (arXiv 2403.17887): skip the block of layers of least angular distance."""

from __future__ import annotations

import numpy as np

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class Angular(Rule):
    """`d(l, l + n) = arccos(cos(h_l, h_{l+n})) / pi` at the last token, mean over images.

    The plan for n layers is the contiguous block l, ..., l + n - 1 of least d (eq. 6 and 7), so
    plans of different n need not contain each other.
    """

    name = "angular"
    modes = ("block",)
    source = "Gromov et al. 2024, arXiv:2403.17887, eq. 6 and 7"
    deviation = (
        "no healing (fine-tuning) after the cut; questions about images, where the authors read "
        "text"
    )
    condition = "geometric"

    def distances(self, evidence: Evidence, n: int) -> Floats:
        """(L - n + 1,) mean distance from state l to state l + n."""
        states = evidence.last_token_states()
        cosines = [cosine(a, b) for a, b in zip(states[:-n], states[n:], strict=True)]
        angles = [np.arccos(np.clip(of_layer, -1.0, 1.0)) / np.pi for of_layer in cosines]
        return np.array([evidence.image_mean(angle) for angle in angles])

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) distance of every single layer."""
        return self.distances(evidence, 1)

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan]:
        """The best block of 1, 2, ..., L - 1 layers."""
        n_layers = evidence.n_layers
        starts = [int(np.argmin(self.distances(evidence, n))) for n in range(1, n_layers)]
        return [
            SkipPlan(mode, n_layers, layers=tuple(range(start, start + n)))
            for n, start in enumerate(starts, start=1)
        ]


def cosine(a: Floats, b: Floats) -> Floats:
    """(n,) cosine of paired rows; 0 where a row is zero."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.where(lengths > 0, lengths, np.inf))
