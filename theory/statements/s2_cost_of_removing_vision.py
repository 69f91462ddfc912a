"""H(Y|T) - H(Y|V,T) = I(Y;V|T), and dNLL = E KL(P||skip) - E KL(P||full) for predictors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import Pmf, as_pmf, entropy, information, kl_divergence, random_pmf
from theory.statement import RECONSTRUCTION, ProofCheck, Statement
from theory.statements._proofs import both, collect, shannon


@dataclass(frozen=True)
class Removal:
    """A joint pmf of (V, T, Y) and two predictors of Y, pmfs over the last axis of (v, t, k).

    The identity holds for any predictor `skip`, even if it depends on V.
    """

    p: Pmf
    full: Pmf
    skip: Pmf


def generate(rng: np.random.Generator) -> Removal:
    """A random joint pmf and two random positive predictors; skip does not depend on V."""
    v, t, y = (int(n) for n in rng.integers(2, 5, 3))
    skip = rng.dirichlet(np.ones(y), size=(1, t))
    full = rng.dirichlet(np.ones(y), size=(v, t))
    return Removal(random_pmf(rng, (v, t, y)), full, np.repeat(skip, v, axis=0))


def nll(p: Pmf, predictor: Pmf) -> float:
    """E[-log predictor(Y)] in nats."""
    inside = p > 0
    return -float(np.sum(p[inside] * np.log(predictor[inside])))


def divergence(p: Pmf, predictor: Pmf) -> float:
    """E KL(P(Y|V,T) || predictor), in nats."""
    total = 0.0
    for cell in np.ndindex(p.shape[:2]):
        mass = float(p[cell].sum())
        if mass > 0:
            total += mass * kl_divergence(p[cell] / mass, predictor[cell])
    return total


def slack(case: Removal) -> float:
    """Minus the larger error of the two identities, in nats."""
    increase = entropy(case.p, [2], given=[1]) - entropy(case.p, [2], given=[0, 1])
    error = abs(increase - information(case.p, [2], [0], given=[1]))
    change = nll(case.p, case.skip) - nll(case.p, case.full)
    kl_change = divergence(case.p, case.skip) - divergence(case.p, case.full)
    return -max(error, abs(change - kl_change))


def summands() -> sp.Expr:
    """Summand of the second identity for one answer of probability P: left minus right side."""
    p, full, skip = sp.symbols("P full skip", positive=True)
    change = p * (-sp.log(skip)) - p * (-sp.log(full))
    return sp.expand_log(change - (p * sp.log(p / skip) - p * sp.log(p / full)))


def proof() -> ProofCheck:
    """First identity for all distributions; second identity summand by summand."""
    return both(
        shannon(("H(Y|T) - H(Y|V,T) = I(Y;V|T)", ())),
        collect({"each summand of the second identity is 0": sp.expand(summands()) == 0}, "sympy"),
    )


STATEMENT = Statement(
    id="S2",
    title="the cost of removing vision is a conditional mutual information",
    setting="finite alphabets; log loss in nats; predictors with positive probabilities",
    claim="H(Y|T_l) - H(Y|V_l,T_l) = I(Y;V_l|T_l);  NLL_skip - NLL_full = E KL(P||p_skip) "
    "- E KL(P||p_full) with P = P(Y|V_l,T_l)",
    source=f"{RECONSTRUCTION}; definition of conditional mutual information",
    evidence="shannon-lp",
    domain="all joint distributions and all predictors (second identity by sympy for each summand)",
    generate=generate,
    slack=slack,
    witness=lambda: Removal(  # V = Y, T constant: the cost of removing V is log 2
        as_pmf(np.eye(2)[:, None, :]), np.full((2, 1, 2), 0.5), np.full((2, 1, 2), 0.5)
    ),
    notes=(
        "The increase of the NLL of a model can be less than I(Y;V_l|T_l), even negative (S15).",
    ),
    proof=proof,
    symbolic=summands,
)
