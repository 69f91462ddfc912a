"""VTW (Lin et al. 2024, arXiv 2405.05803): withdraw all vision tokens from some layer on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class VTW(RuleBase):
    """Exit at the first layer k >= 5 with `mean KL(p_skip || p_full) <= eta`.

    Attributes:
        eta: the threshold in nats: .003 for LLaVA-1.5-7B, .0005 for 13B, .0001 for NeXT-7B (code).
        first: the first layer considered.
    """

    eta: float = 0.003
    first: int = 5
    name: str = "vtw"
    modes: tuple[str, ...] = ("early_exit",)
    source: str = "Lin et al. 2024, arXiv:2405.05803, eq. 5 and its code"
    condition: str = "informational at exit, functional (without labels)"
    requires: str = "candidate runs"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers - 1,) divergence of every exit depth from 1 on, nats."""
        return evidence.candidate_kl(mode)

    def choice(self, evidence: Evidence) -> SkipPlan | None:
        """The plan VTW itself takes; None where no depth is below the threshold."""
        depth = first_below(self.score(evidence, "early_exit"), self.eta, first=self.first)
        return None if depth is None else units("early_exit", evidence.n_layers)[depth - 1]


def first_below(
    divergence: Sequence[float] | NDArray[np.float64], eta: float, *, first: int = 5
) -> int | None:
    """The first exit depth from `first` on whose divergence is at most `eta`; None if none is.

    Args:
        divergence: (n_layers - 1,) `mean KL(p_skip || p_full)` of exits 1, 2, ... in nats.
        eta: the threshold, nats.
        first: the first depth considered.

    Example:
        >>> first_below([0.0, 0.2, 0.001], 0.003, first=2)
        3
    """
    for depth, value in enumerate(divergence, start=1):
        if depth >= first and value <= eta:
            return depth
    return None
