"""H(Y|T) - H(Y|V,T) = I(Y;V|T), and for real predictors dNLL = E KL(P||skip) - E KL(P||full)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import Pmf, as_pmf, entropy, information, kl_divergence, random_pmf
from theory.statement import RECONSTRUCTION, ProofCheck, Statement
from theory.statements._proofs import both, collect, shannon


@dataclass(frozen=True)
class Removal:
    """A joint pmf of (V, T, Y) and two predictors of Y, pmfs of shape (v, t, k) over the last axis.

    `skip` need not ignore V: for the identity it may be any predictor.
    """

    p: Pmf
    full: Pmf
    skip: Pmf


def generate(rng: np.random.Generator) -> Removal:
    """A random joint pmf and two random predictors that exclude no answer; skip ignores V."""
    v, t, y = (int(n) for n in rng.integers(2, 5, 3))
    skip = rng.dirichlet(np.ones(y), size=(1, t))
    full = rng.dirichlet(np.ones(y), size=(v, t))
    return Removal(random_pmf(rng, (v, t, y)), full, np.repeat(skip, v, axis=0))


def nll(p: Pmf, predictor: Pmf) -> float:
    """E[-log predictor(Y)] in nats."""
    inside = p > 0
    return -float(np.sum(p[inside] * np.log(predictor[inside])))


def divergence(p: Pmf, predictor: Pmf) -> float:
    """E KL(P(Y|V,T) || predictor), one cell of (V, T) after the other."""
    total = 0.0
    for cell in np.ndindex(p.shape[:2]):
        mass = float(p[cell].sum())
        if mass > 0:
            total += mass * kl_divergence(p[cell] / mass, predictor[cell])
    return total


def slack(case: Removal) -> float:
    """Minus the larger error of the two identities, in nats."""
    best = entropy(case.p, [2], given=[1]) - entropy(case.p, [2], given=[0, 1])
    first = abs(best - information(case.p, [2], [0], given=[1]))
    change = nll(case.p, case.skip) - nll(case.p, case.full)
    real = divergence(case.p, case.skip) - divergence(case.p, case.full)
    return -max(first, abs(change - real))


def summands() -> sp.Expr:
    """One term of the second identity: left side minus right side, for probability P."""
    p, full, skip = sp.symbols("P full skip", positive=True)
    change = p * (-sp.log(skip)) - p * (-sp.log(full))
    return sp.expand_log(change - (p * sp.log(p / skip) - p * sp.log(p / full)))


def proof() -> ProofCheck:
    """The first identity for all distributions; the second term by term, hence for every sum."""
    return both(
        shannon(("H(Y|T) - H(Y|V,T) = I(Y;V|T)", ())),
        collect({"each summand of the second identity is 0": sp.expand(summands()) == 0}, "sympy"),
    )


STATEMENT = Statement(
    id="S2",
    title="removing vision costs exactly the conditional information",
    setting="finite alphabets; log loss in nats; predictors that give no answer probability 0",
    claim="H(Y|T_l) - H(Y|V_l,T_l) = I(Y;V_l|T_l);  NLL_skip - NLL_full = E KL(P||p_skip) "
    "- E KL(P||p_full) with P = P(Y|V_l,T_l)",
    source=f"{RECONSTRUCTION}; definition of conditional mutual information",
    evidence="shannon-lp",
    domain="all joint distributions and all predictors (second identity by sympy, per summand)",
    generate=generate,
    slack=slack,
    witness=lambda: Removal(  # V = Y, T constant: removing V costs log 2
        as_pmf(np.eye(2)[:, None, :]), np.full((2, 1, 2), 0.5), np.full((2, 1, 2), 0.5)
    ),
    notes=("What a real model pays can be less than I(Y;V_l|T_l), even negative: see S15.",),
    proof=proof,
    symbolic=summands,
)
