"""I(X;X') = -(d/2) log(2c - c^2) for cross-covariance (1-c) I, and a lower bound by the trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import entropy
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import about, collect, is_nonnegative, is_zero


@dataclass(frozen=True)
class Cross:
    """X and X' in d dimensions with cross-covariance C.

    Attributes:
        c: cross-covariance, shape (d, d); singular values below 1.
        var: variance of the coordinates of X; the coordinates of X' have variance 1.
        gaussian: whether (X, X') is Gaussian; if not, coordinates are +-1 and C is diagonal.
    """

    c: Array
    var: float = 1.0
    gaussian: bool = True

    @property
    def information(self) -> float:
        """Exact I(X;X') in nats."""
        if not self.gaussian:
            equal = (1.0 + np.diag(self.c)) / 2
            return float(sum(np.log(2.0) - entropy(np.array([e, 1 - e])) for e in equal))
        singular = np.linalg.svd(self.c / np.sqrt(self.var), compute_uv=False)
        return float(-0.5 * np.log1p(-(singular**2)).sum())


def generate(rng: np.random.Generator) -> Cross:
    """Random cross-covariance with singular values below 1; one in three is a multiple of I."""
    d = int(rng.integers(1, 6))
    if rng.random() < 1 / 3:
        return Cross(float(rng.uniform(-0.99, 0.99)) * np.eye(d))
    c = rng.standard_normal((d, d))
    return Cross(c * float(rng.uniform(0.0, 0.99)) / np.linalg.norm(c, 2))


def slack(case: Cross) -> float:
    """Information minus the bound; for C = rho I, minus the error of the closed form."""
    d = len(case.c)
    rho = float(np.trace(case.c)) / d
    if np.allclose(case.c, rho * np.eye(d), atol=1e-12):
        c = 1.0 - rho
        return -abs(case.information + d / 2 * float(np.log(2 * c - c * c)))
    return case.information + d / 2 * float(np.log1p(-(rho**2)))


C = sp.Symbol("c", positive=True)
DIM = sp.Symbol("dim", positive=True)
MEAN = sp.Symbol("t", nonnegative=True)  # |tr C| / dim, below 1
FORMULAS: Formulas = {
    "closed form": Formula(sp.Symbol("I(X;X')"), "=", -DIM / 2 * sp.log(2 * C - C**2)),
    "bound": Formula(-DIM / 2 * sp.log(1 - MEAN**2), "<=", sp.Symbol("I(X;X')")),
}


@about(
    {
        "closed form": Formula(sp.Symbol("I(X;X')"), "=", None),
        "bound": Formula(None, "<=", sp.Symbol("I(X;X')")),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """For C = U s V', I is a sum over s of an increasing convex function, and |tr C| <= sum s."""
    s = sp.Symbol("s", nonnegative=True)
    summand = -sp.log(1 - s**2) / 2
    covariance = sp.Matrix([[1, 1 - C], [1 - C, 1]])
    closed, bound = claim["closed form"], claim["bound"]
    claimed = sp.exp(-2 * closed.right / DIM)
    return collect(
        {
            "I = -(1/2) log det Cov for one coordinate, times dim": is_zero(
                claimed - sp.expand(covariance.det())
            ),
            "the bound is at most dim f(t), f(s) = -(1/2) log(1-s^2)": is_nonnegative(
                sp.simplify(DIM * summand.subs(s, MEAN) - bound.left)
            ),
            "f increases": sp.simplify(sp.diff(summand, s) * (1 - s**2)) == s,
            "f is convex": sp.simplify(sp.diff(summand, s, 2) * (1 - s**2) ** 2) == 1 + s**2,
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S12g",
    title="mutual information of adjacent states in a Gaussian model",
    setting="X, X' in d dimensions; C their cross-covariance, all singular values below 1",
    claim="I(X;X') = -(d/2) log(2c - c^2) nats if C = (1-c) I;  "
    "I(X;X') >= -(d/2) log(1 - (tr C/d)^2) for any C",
    source="closed form; Cover & Thomas 2006, Section 8.5",
    evidence="symbolic",
    domain="all jointly Gaussian pairs with isotropic unit marginals, any d",
    formulas=FORMULAS,
    argument="Coordinates with cross-covariance (1-c) I are independent pairs, so their "
    "information adds up. For C = U s V' the information is the sum of f(s_i) over the singular "
    "values; f is convex and increasing and |tr C| <= sum s_i (von Neumann), so the sum is at "
    "least dim f(|tr C|/dim).",
    generate=generate,
    slack=slack,
    witness=lambda: Cross(0.5 * np.eye(3)),
    hypotheses=(
        Hypothesis(
            "jointly Gaussian",
            "(X, X') is jointly Gaussian",
            holds=lambda case: case.gaussian,
            counterexample=lambda: Counterexample(
                Cross(np.array([[0.99]]), gaussian=False),
                "for signs with correlation .99 the information is .66 nats, the formula gives "
                "1.96",
            ),
        ),
        Hypothesis(
            "isotropic unit marginals",
            "Cov X = Cov X' = I",
            holds=lambda case: case.var == 1.0,
            counterexample=lambda: Counterexample(
                Cross(np.array([[0.9]]), var=4.0),
                "for variance 4 and covariance .9 the correlation is .45",
            ),
        ),
    ),
    superfluous=(
        "Zero means: information does not depend on them (c is 1 - rho, not a mean cosine "
        "distance).",
        "X' Gaussian, for the lower bound: if X is Gaussian, h(X|X') is at most the entropy of a "
        "Gaussian with the error covariance I - C C' of the best linear prediction.",
    ),
    notes=(
        "The Gaussian model does not describe deterministic layers: an invertible layer on "
        "continuous states has infinite information.",
        "The mean cosine distance tends to c only as d grows. For d = 1 and rho = .5 it is 2/3, "
        "and with 2/3 for c the formula gives .059 instead of .144 nats.",
    ),
    proof=proof,
)
