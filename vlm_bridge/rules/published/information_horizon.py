"""Information horizon (Wang et al. 2025, arXiv 2512.07580): depth where vision says no more."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


@dataclass(frozen=True, kw_only=True)
class InformationHorizon(Rule):
    """`max_{j >= l} I_j`, I_j the change of the answer's probability without vision from j on.

        I_j = mean |p_without(a) - p_full(a)|, a the full model's own first answer token

    `early_exit` removes all vision tokens, `token_pruning` all but a random share `keep`, as the
    authors do beyond the horizon. Information that vanishes and returns has not vanished, hence
    the maximum over later depths. The horizon is the first depth whose score is at most `eta`.

    Attributes:
        eta: the largest change of a probability that counts as none.
    """

    eta: float = 0.01
    name = "information-horizon"
    modes = ("early_exit", "token_pruning")
    source = "Wang et al. 2025, arXiv:2512.07580: change of output probabilities without a token"
    deviation = (
        "removes all vision tokens, or a random share, at once, where the authors remove one; "
        "first answer token; the threshold is ours; without their code"
    )
    condition = "informational at exit, functional (without labels)"
    requires = "candidate runs"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers - 1,) probability at every depth from 1 on, in [0, 1], not rising."""
        runs = evidence.candidates(self._removals(evidence, mode))
        information = np.array([run.answer_change for run in runs])
        return np.asarray(np.maximum.accumulate(information[::-1])[::-1])

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
        """Random pruning after layer L - 1, L - 2, ..., 1; None for exits."""
        return None if mode == "early_exit" else self._removals(evidence, mode)[::-1]

    def horizon(self, evidence: Evidence, mode: str = "early_exit") -> int | None:
        """The first depth from 1 on with a score of at most `eta`; None without one."""
        vanished = np.flatnonzero(self.score(evidence, mode) <= self.eta)
        return int(vanished[0]) + 1 if len(vanished) else None

    def _removals(self, evidence: Evidence, mode: str) -> list[SkipPlan]:
        units = evidence.units(mode, keep=self.keep)
        return units if mode == "early_exit" else [replace(u, select="random") for u in units]
