"""I(X;X') = -(d/2) log(2c - c^2) for cross-covariance (1-c) I, and a bound by the trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from theory.pmf import entropy
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import collect


@dataclass(frozen=True)
class Cross:
    """X and X' in d dimensions with cross-covariance C and marginal variances var.

    Attributes:
        c: cross-covariance, shape (d, d); singular values below 1 for unit variances.
        var: variance of every coordinate of X; those of X' are 1.
        gaussian: if False, coordinates are signs +-1 with the same covariances (C diagonal).
    """

    c: Array
    var: float = 1.0
    gaussian: bool = True

    @property
    def information(self) -> float:
        """I(X;X') in nats, exact."""
        if not self.gaussian:
            equal = (1.0 + np.diag(self.c)) / 2
            return float(sum(np.log(2.0) - entropy(np.array([e, 1 - e])) for e in equal))
        singular = np.linalg.svd(self.c / np.sqrt(self.var), compute_uv=False)
        return float(-0.5 * np.log1p(-(singular**2)).sum())


def generate(rng: np.random.Generator) -> Cross:
    """Any cross-covariance with singular values below 1; one in three is a multiple of I."""
    d = int(rng.integers(1, 6))
    if rng.random() < 1 / 3:
        return Cross(float(rng.uniform(-0.99, 0.99)) * np.eye(d))
    c = rng.standard_normal((d, d))
    return Cross(c * float(rng.uniform(0.0, 0.99)) / np.linalg.norm(c, 2))


def slack(case: Cross) -> float:
    """I minus the bound by the trace; where C = rho I, minus the error of the closed form."""
    d = len(case.c)
    rho = float(np.trace(case.c)) / d
    if np.allclose(case.c, rho * np.eye(d), atol=1e-12):
        c = 1.0 - rho
        return -abs(case.information + d / 2 * float(np.log(2 * c - c * c)))
    return case.information + d / 2 * float(np.log1p(-(rho**2)))


def closed_form() -> sp.Expr:
    """-(1/2) log(1 - rho^2) for one coordinate, at rho = 1 - c."""
    c = sp.Symbol("c", positive=True)
    covariance = sp.Matrix([[1, 1 - c], [1 - c, 1]])
    return -sp.log(sp.expand(covariance.det())) / 2


def proof() -> ProofCheck:
    """C = U s V': I is the sum over singular values, convex and rising, and |tr C| <= sum s."""
    c = sp.Symbol("c", positive=True)
    s = sp.Symbol("s", nonnegative=True)
    summand = -sp.log(1 - s**2) / 2
    return collect(
        {
            "one coordinate: -(1/2) log(2c - c^2)": sp.expand(
                sp.exp(-2 * closed_form()) - (2 * c - c**2)
            )
            == 0,
            "-(1/2) log(1-s^2) rises": sp.simplify(sp.diff(summand, s) * (1 - s**2)) == s,
            "and is convex": sp.simplify(sp.diff(summand, s, 2) * (1 - s**2) ** 2) == 1 + s**2,
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S12g",
    title="information of adjacent states in a Gaussian model",
    setting="X, X' in d dimensions; C their cross-covariance, all singular values below 1",
    claim="C = (1-c) I: I(X;X') = -(d/2) log(2c - c^2) nats; for any C, "
    "I(X;X') >= -(d/2) log(1 - (tr C/d)^2)",
    source="closed form; Cover & Thomas 2006, Section 8.5",
    evidence="symbolic",
    domain="all jointly Gaussian pairs with isotropic unit marginals, any d",
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
                "signs with correlation .99 share .66 nats, the formula says 1.96",
            ),
        ),
        Hypothesis(
            "isotropic unit marginals",
            "Cov X = Cov X' = I",
            holds=lambda case: case.var == 1.0,
            counterexample=lambda: Counterexample(
                Cross(np.array([[0.9]]), var=4.0), "variance 4: correlation .45, not .9"
            ),
        ),
    ),
    superfluous=(
        "Zero means: information does not see them (c is 1 - rho, not a mean cosine).",
        "For the bound by the trace, that X' is Gaussian: with X Gaussian, h(X|X') is at most that "
        "of a Gaussian with the error covariance of the best linear prediction, I - C C'.",
    ),
    notes=(
        "A model, not a fact about networks: a deterministic invertible layer on continuous "
        "states has infinite information.",
        "The mean cosine distance tends to c only as d grows: at d = 1, rho = .5 it is 2/3 - in "
        "its place the formula gives .059 in place of .144 nats.",
    ),
    proof=proof,
    symbolic=closed_form,
)
