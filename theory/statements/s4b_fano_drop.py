"""Fano's inequality, and a bound on the accuracy drop from two conditional entropies."""

from __future__ import annotations

import math

import numpy as np
import sympy as sp
from scipy.optimize import brentq

from theory.formula import Formula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, random_pmf, softmax_pmf
from theory.statement import ProofCheck, Search, Statement
from theory.statements._proofs import about, both, collect, gibbs, increases_until, is_nonnegative


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Z_full, Z_skip, Y)."""
    return random_pmf(rng, (*(int(n) for n in rng.integers(1, 5, 2)), int(rng.integers(2, 6))))


def fano(error: float, k: int) -> float:
    """h_b(e) + e log(k - 1) in nats, the largest H(Y|Z) for a Bayes error e."""
    return entropy(np.array([error, 1.0 - error])) + error * math.log(k - 1)


def smallest_error(nats: float, k: int) -> float:
    """Error e in [0, 1 - 1/k] with fano(e) = H(Y|Z) = nats."""
    chance = 1.0 - 1.0 / k
    if nats <= 0.0 or nats >= fano(chance, k):
        return 0.0 if nats <= 0.0 else chance
    return float(brentq(lambda error: fano(error, k) - nats, 0.0, chance, xtol=1e-15))


def largest_error(nats: float, k: int) -> float:
    """Minimum of the bounds of S4a and 1 - 1/k."""
    return min(nats / (2.0 * math.log(2.0)), -math.expm1(-nats), 1.0 - 1.0 / k)


def slack(p: Pmf) -> float:
    """Minimum of the margins of Fano's inequality for both states and of the bound on the drop."""
    k = p.shape[2]
    full, skip = p.sum(axis=1), p.sum(axis=0)
    errors = [1.0 - float(q.max(axis=1).sum()) for q in (full, skip)]
    nats = [entropy(q, [1], given=[0]) for q in (full, skip)]
    margin = min(fano(max(e, 0.0), k) - h for e, h in zip(errors, nats, strict=True))
    bound = largest_error(nats[1], k) - smallest_error(nats[0], k)
    return min(margin, bound - (errors[1] - errors[0]))


E, K = sp.symbols("P_e k", positive=True)
FORMULAS: Formulas = {
    "Fano": Formula(
        sp.Symbol("H(Y|Z)"),
        "<=",
        -E * sp.log(E) - (1 - E) * sp.log(1 - E) + E * sp.log(K - 1),
    ),
}


@about({"Fano": Formula(sp.Symbol("H(Y|Z)"), "<=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """For every k: grouping and Gibbs' inequality for each z, Jensen over z, then inversion.

    With m = max_y P(y|z), H(P(.|z)) = h_b(m) + (1-m) H(rest), where the rest has k - 1 values. The
    resulting bound is concave in the error, so it holds on average. It increases up to 1 - 1/k,
    which no Bayes error exceeds, so its inverse is a lower bound on the error.
    """
    bound = claim["Fano"].right
    m, rest = sp.symbols("m r", positive=True)
    split = -m * sp.log(m) - (1 - m) * rest * sp.log((1 - m) * rest)
    grouped = -m * sp.log(m) - (1 - m) * rest * (sp.log(1 - m) + sp.log(rest))
    derived = -(1 - E) * sp.log(1 - E) - E * sp.log(E) + E * sp.log(K - 1)  # m = 1 - P_e
    return both(
        gibbs(),
        collect(
            {
                "log((1-m) r) = log(1-m) + log r in each term": sp.simplify(
                    sp.expand_log(split - grouped, force=True)
                )
                == 0,
                "the bound is at least h_b(m) + (1-m) log(k-1) at m = 1 - P_e": is_nonnegative(
                    sp.expand(bound - derived)
                ),
                "the bound is concave and increases in the error up to 1 - 1/k": increases_until(
                    bound, E, 1 - 1 / K
                ),
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="S4b",
    title="Fano's inequality and a bound on the accuracy drop from two entropies",
    setting="finite alphabets; k classes; P_e the Bayes error; fano(e) = h_b(e) + e log(k-1)",
    claim="H(Y|Z) <= fano(P_e(Z)); hence P_e(skip) - P_e(full) <= min(H_skip/(2 ln 2), "
    "1 - exp(-H_skip), 1 - 1/k) - fano^{-1}(H_full)",
    source="Fano 1961; Cover & Thomas 2006, Theorem 2.10.1; S4a",
    evidence="symbolic",
    domain="all joint pmfs of (Z_full, Z_skip, Y), every finite k",
    formulas=FORMULAS,
    argument="For each z, H = h_b(m) + (1-m) H(rest) by grouping, and the rest has k - 1 values "
    "(Gibbs). Jensen's inequality gives the average. The bound on the drop is S4a for the "
    "skipped state minus the inverse of Fano's bound for the full state; no machine checks the "
    "inverse beyond the drawn instances.",
    generate=generate,
    slack=slack,
    witness=lambda: as_pmf(np.ones((1, 1, 3))),  # three equally likely answers: equality in Fano
    proof=proof,
    search=Search(12, lambda vector: softmax_pmf(vector, (2, 2, 3))),
)
