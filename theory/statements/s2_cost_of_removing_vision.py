"""H(Y|T) - H(Y|V,T) = I(Y;V|T), and dNLL = E KL(P||skip) - E KL(P||full) for predictors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import EntropyFormula, Formula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, information, kl_divergence, random_pmf
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import both, collect, gibbs, is_zero, shannon


@dataclass(frozen=True)
class Removal:
    """A joint pmf of (V, T, Y) and two models that predict Y, pmfs over the last axis.

    Attributes:
        p: joint pmf, shape (v, t, k).
        full: predictor of the full model, shape (v, t, k).
        skip: predictor of the skipped model, the same shape; it may depend on V.
        cached: predictor of the full model when a further variable U, equal to Y, is seen, such as
            keys that earlier layers cached; None if it reads (V, T) only.
    """

    p: Pmf
    full: Pmf
    skip: Pmf
    cached: Pmf | None = None

    @property
    def nll_full(self) -> float:
        """NLL of the full model, in nats."""
        return nll(self.p, self.full if self.cached is None else self.cached)


def generate(rng: np.random.Generator) -> Removal:
    """A random joint pmf and two random positive predictors; half of the skips ignore V."""
    v, t, y = (int(n) for n in rng.integers(2, 5, 3))
    skip = rng.dirichlet(np.ones(y), size=(1 if rng.random() < 0.5 else v, t))
    full = rng.dirichlet(np.ones(y), size=(v, t))
    return Removal(random_pmf(rng, (v, t, y)), full, np.array(np.broadcast_to(skip, full.shape)))


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
    """Minus the largest error of the identities, and the margin of the NLL over the entropy."""
    increase = entropy(case.p, [2], given=[1]) - entropy(case.p, [2], given=[0, 1])
    error = abs(increase - information(case.p, [2], [0], given=[1]))
    change = nll(case.p, case.skip) - case.nll_full
    kl_change = divergence(case.p, case.skip) - divergence(case.p, case.full)
    best = case.nll_full - entropy(case.p, [2], given=[0, 1])
    return min(-max(error, abs(change - kl_change)), best)


P, FULL, SKIP = sp.symbols("P p_full p_skip", positive=True)
FORMULAS: Formulas = {
    "loss of the best predictors": EntropyFormula("H(Y|T) - H(Y|V,T) = I(Y;V|T)"),
    "summand for one (v, t, y), P = P(y|v,t)": Formula(
        -P * sp.log(SKIP) + P * sp.log(FULL),
        "=",
        P * sp.log(P / SKIP) - P * sp.log(P / FULL),
    ),
}


def proof(claim: Formulas) -> ProofCheck:
    """First identity for all distributions; second identity summand by summand."""
    *_, summand = claim.values()
    change = P * (-sp.log(SKIP)) - P * (-sp.log(FULL))
    kl_change = (P * sp.log(P) - P * sp.log(SKIP)) - (P * sp.log(P) - P * sp.log(FULL))
    return both(
        shannon(claim),
        gibbs(),
        collect(
            {
                "the sides are the summands of the NLLs and of the divergences": (
                    summand.relation == "="
                    and is_zero(summand.left - change)
                    and is_zero(sp.expand_log(summand.right) - kl_change)
                ),
                "each summand of the second identity is 0": is_zero(sp.expand_log(summand.gap)),
            },
            "sympy",
        ),
    )


def reads_a_cache() -> Removal:
    """V and T constant, Y a fair coin; the full model reads Y from a cache."""
    half = np.full((1, 1, 2), 0.5)
    return Removal(half, half, half, cached=np.full((1, 1, 2), 0.9))


STATEMENT = Statement(
    id="S2",
    title="the cost of removing vision is a conditional mutual information",
    setting="finite alphabets; log loss in nats; p_full and p_skip predictors of Y with positive "
    "probabilities",
    claim="the smallest NLL of a predictor of T_l exceeds that of a predictor of (V_l,T_l) by "
    "H(Y|T_l) - H(Y|V_l,T_l) = I(Y;V_l|T_l);  NLL_skip - NLL_full = E KL(P||p_skip) "
    "- E KL(P||p_full) with P = P(Y|V_l,T_l)",
    source=f"{RECONSTRUCTION}; definition of conditional mutual information",
    evidence="shannon-lp",
    domain="all joint distributions and all predictors of (V_l,T_l)",
    formulas=FORMULAS,
    argument="The smallest NLL is the entropy by Gibbs' inequality. Multiply the summand by "
    "P(v,t) and sum over (v,t,y): p_full and p_skip are numbers given (v,t,y), since the "
    "predictors read nothing else.",
    generate=generate,
    slack=slack,
    witness=lambda: Removal(  # V = Y, T constant: the cost of removing V is log 2
        as_pmf(np.eye(2)[:, None, :]), np.full((2, 1, 2), 0.5), np.full((2, 1, 2), 0.5)
    ),
    hypotheses=(
        Hypothesis(
            "predictors of (V_l, T_l)",
            "both models predict from (V_l, T_l) alone: no earlier keys or values, no other state",
            holds=lambda case: case.cached is None,
            counterexample=lambda: Counterexample(
                reads_a_cache(),
                "if the full model reads the answer from a cache of an earlier layer, its NLL .11 "
                "is below H(Y|V,T) = .69, and the identity is off by .59",
            ),
        ),
    ),
    notes=(
        "With a KV cache the suffix also reads keys and values of the layers before l only if they "
        "are part of the state: then V_l and T_l stand for all that the suffix reads.",
        "The increase of the NLL of a model can be less than I(Y;V_l|T_l), even negative (S15).",
    ),
    proof=proof,
)
