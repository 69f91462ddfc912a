"""CKA and SVCCA between a layer's input and output, which reviewers of the paper ask for."""

from __future__ import annotations

import itertools
from pkgutil import resolve_name

import numpy as np

from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule

#: Fewest questions for CKA.
_FEWEST = 4
#: Share of the variance that SVCCA keeps, as its authors do.
_VARIANCE = 0.99


class CKA(Rule):
    """`1 - CKA(h_l, h_{l+1})` of the last token's states over the questions, debiased.

    CKA does not see a rotation or a scale of the whole representation, so a layer that turns every
    state alike scores 0, though no later layer undoes the turn.
    """

    name = "cka"
    modes = ("block",)
    source = "Kornblith et al. 2019, arXiv:1905.00414, eq. 4; debiased as arXiv:2010.15327"
    deviation = "the authors compare layers of networks and skip none; a rule made of their index"
    condition = "geometric"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) 1 minus the similarity of input and output; slightly below 0 by debiasing."""
        clusters = evidence.clusters
        if len(clusters) < _FEWEST:
            raise BridgeError(
                f"rule '{self.name}' needs at least {_FEWEST} questions, got {len(clusters)}"
            )
        states = evidence.last_token_states()
        similarity = resolve_name("estimators:linear_cka")  # with scipy, which others do not need

        def score(before: Floats, after: Floats) -> float:
            alike = of_constants(before, after)
            if alike is not None:
                return alike
            return 1.0 - float(similarity(before, after, clusters=clusters).value)

        return np.array([score(a, b) for a, b in itertools.pairwise(states)])


class SVCCA(Rule):
    """`1 - mean rho_i`, rho the canonical correlations of the leading directions of h_l, h_{l+1}.

    The leading directions carry 99 % of the variance over the questions, of the last token.
    """

    name = "svcca"
    modes = ("block",)
    source = "Raghu et al. 2017, arXiv:1706.05806, section 2"
    deviation = (
        "at most a quarter as many directions as questions, since with as many as questions every "
        "correlation is 1; the authors skip no layer"
    )
    condition = "geometric"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) 1 minus the mean correlation of input and output."""

        def score(before: Floats, after: Floats) -> float:
            alike = of_constants(before, after)
            return 1.0 - correlation(leading(before), leading(after)) if alike is None else alike

        pairs = itertools.pairwise(evidence.last_token_states())
        return np.array([score(a, b) for a, b in pairs])


def of_constants(before: Floats, after: Floats) -> float | None:
    """The score of a layer whose inputs are all alike: 1 if its outputs differ, else 0.

    The last token of a prompt is often the same for all questions, and so is its embedding. None
    for other layers.
    """
    if np.ptp(before, axis=0).any():
        return None
    return float(np.ptp(after, axis=0).any())


def leading(rows: Floats) -> Floats:
    """(n, k) orthonormal coordinates of centred rows along their leading directions.

    k is the least number that carries 99 % of the variance, at most n // 4 and at least 1.
    """
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    carried = np.cumsum(s**2) / max(float((s**2).sum()), np.finfo(float).tiny)
    k = int(np.searchsorted(carried, _VARIANCE - 1e-12)) + 1
    return np.asarray(u[:, : max(1, min(k, len(rows) // 4))])


def correlation(a: Floats, b: Floats) -> float:
    """Mean canonical correlation of two orthonormal bases, over the smaller one's directions.

    >>> a = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)))[0]
    >>> round(correlation(a, a[:, ::-1]), 9)
    1.0
    """
    values = np.linalg.svd(a.T @ b, compute_uv=False)
    return float(np.clip(values, 0.0, 1.0).mean())
