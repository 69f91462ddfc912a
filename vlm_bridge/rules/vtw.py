"""VTW (Lin et al. 2024, arXiv 2405.05803): withdraw all vision tokens from some layer on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.units import units


@dataclass(frozen=True)
class VTW:
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
    reads: str = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers - 1,) divergence of every exit depth from 1 on, nats."""
        return evidence.candidate_kl(mode)

    def choice(self, evidence: Evidence) -> SkipPlan | None:
        """The plan VTW itself takes; None where no depth is below the threshold."""
        divergence = self.score(evidence, "early_exit")
        for plan, value in zip(units("early_exit", evidence.n_layers), divergence, strict=True):
            if plan.exit is not None and plan.exit >= self.first and value <= self.eta:
                return plan
        return None
