"""Shannon invariants (Gutknecht et al. 2025, arXiv 2504.15779): what adjacent states both hold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from estimators.discrete import entropy, shannon_invariants
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.information import coded_states
from vlm_bridge.rules.protocol import Origin, RuleBase

#: Share of the answers' entropy below which a ratio to what two states say of them is noise.
LEAST = 0.1


@dataclass(frozen=True, kw_only=True)
class ShannonInvariants(RuleBase):
    """`2 - r`, r the redundancy degree of a layer's input and output about the model's own answer.

        r_l = (I(H_l; A) + I(H_{l+1}; A)) / I(H_l, H_{l+1}; A)

    r is 2 where both states hold all of it, 1 where each piece is in one alone; no decomposition is
    chosen. H is the last token's state for `block` and the mean vision state for `freeze`, in
    clusters. Where the two say next to nothing about the answer the degree has no meaning, and r is
    put at 1.
    """

    name: str = "shannon-invariants"
    modes: tuple[str, ...] = ("block", "freeze")
    source: str = "Gutknecht et al. 2025, arXiv:2504.15779, redundancy degree"
    condition: str = "informational"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) numbers in [0, 2]."""
        coded = coded_states(evidence)
        states = coded.text if mode == "block" else coded.vision
        return np.array([2 - redundancy(a, b, coded.answers) for a, b in pairwise(states)])


def redundancy(a: NDArray[np.int64], b: NDArray[np.int64], answers: NDArray[np.int64]) -> float:
    """Redundancy degree of two codes about the answers, kept in [0, 2].

    1 where together they say less than `LEAST` of the answers' entropy.
    """
    found = shannon_invariants(a, b, answers)[0]
    if float(found.diagnostics["total_nats"]) < LEAST * entropy(answers).value:
        return 1.0
    return float(np.clip(found.value, 0.0, 2.0))
