"""VTW (Lin et al. 2024, arXiv 2405.05803): withdraw all vision tokens from some layer on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


@dataclass(frozen=True, kw_only=True)
class VTW(Rule):
    """Exit at the first layer k >= 5 with `mean KL(p_skip || p_full) <= eta`.

    Attributes:
        eta: the threshold in nats: .003 for LLaVA-1.5-7B, .0005 for 13B, .0001 for NeXT-7B (code).
        first: the first layer considered.
    """

    eta: float = 0.003
    first: int = 5
    name = "vtw"
    modes = ("early_exit",)
    source = "Lin et al. 2024, arXiv:2405.05803, eq. 5 and its code"
    deviation = "none in the choice; the score lists every exit depth"
    condition = "informational at exit, functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers - 1,) divergence of every exit depth from 1 on, nats."""
        return evidence.candidate_kl(mode)

    def choice(self, evidence: Evidence) -> SkipPlan | None:
        """The plan that VTW takes; None where no depth is below the threshold."""
        depth = first_below(self.score(evidence, "early_exit"), self.eta, first=self.first)
        return None if depth is None else evidence.units("early_exit")[depth - 1]


def first_below(divergence: Sequence[float] | Floats, eta: float, *, first: int = 5) -> int | None:
    """The first exit depth from `first` on whose divergence is at most `eta`; None without one.

    `divergence` is `mean KL(p_skip || p_full)` of exits 1, 2, ..., L - 1, in nats as `eta`.

    Example:
        >>> first_below([0.0, 0.2, 0.001], 0.003, first=2)
        3
    """
    depths = range(max(first, 1), len(divergence) + 1)
    return next((depth for depth in depths if divergence[depth - 1] <= eta), None)
