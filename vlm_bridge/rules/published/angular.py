"""Gromov et al. 2024 (arXiv 2403.17887): drop the block of layers that turns the state least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.last_token import by_image, cosine, last_token_states
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class Angular(RuleBase):
    """`d(l, l + n) = arccos(cos(h_l, h_{l+n})) / pi` at the last token; the block of least d goes.

    Its plan for n layers is the contiguous block l, ..., l + n - 1 with the least mean distance
    (its eq. 6 and 7), so plans of different n need not contain each other.
    """

    name: str = "angular"
    modes: tuple[str, ...] = ("block",)
    source: str = "Gromov et al. 2024, arXiv:2403.17887, eq. 6 and 7"
    condition: str = "geometric"
    requires: str = "forward pass"
    origin: Origin = "published"

    def distances(self, evidence: Evidence, n: int) -> NDArray[np.float64]:
        """(L - n + 1,) mean distance from state l to state l + n."""
        states = last_token_states(evidence)
        return np.array(
            [
                by_image(np.arccos(np.clip(cosine(a, b), -1.0, 1.0)) / np.pi, evidence.clusters)
                for a, b in zip(states[:-n], states[n:], strict=True)
            ]
        )

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
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
