"""OLS pays sigma^2 d_V (n-1)/((n-d_T-1)(n-d_T-d_V-1)) for d_V useless regressors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from scipy.special import gammaln

from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import collect


@dataclass(frozen=True)
class Regression:
    """OLS on n draws of d_T text and d_V vision features, all standard normal.

    Attributes:
        n: draws, at least d_T + d_V + 4.
        text: d_T.
        vision: d_V.
        sigma: standard deviation of the noise.
        useful: norm of the true coefficients of vision.
        intercept: whether an intercept is fitted too.
    """

    n: int
    text: int
    vision: int
    sigma: float
    useful: float = 0.0
    intercept: bool = False

    def risk(self, regressors: int, left_out: float) -> float:
        """Expected squared error on a new draw.

        Noise variance times 1 + E tr (X'X)^{-1}, where the trace of an inverse Wishart matrix
        is p E[1/chi^2_{n-p+1}], a ratio of gamma functions; with an intercept one degree of
        freedom goes, and 1 + 1/n comes.
        """
        n = self.n - 1 if self.intercept else self.n
        half = (n - regressors + 1) / 2
        inverse = float(np.exp(gammaln(half - 1) - gammaln(half))) / 2
        base = 1.0 + 1.0 / self.n if self.intercept else 1.0
        return (self.sigma**2 + left_out**2) * base * (1.0 + regressors * inverse)

    @property
    def extra(self) -> float:
        """Risk with vision minus risk without it."""
        return self.risk(self.text + self.vision, 0.0) - self.risk(self.text, self.useful)


def generate(rng: np.random.Generator) -> Regression:
    """Up to 10 + 10 features, from a few to many draws, useless vision."""
    text, vision = (int(k) for k in rng.integers(1, 11, 2))
    n = text + vision + int(rng.integers(4, 100))
    return Regression(n, text, vision, float(rng.uniform(0.1, 2.0)))


def formula(case: Regression) -> float:
    """The claimed extra risk."""
    n, t, v = case.n, case.text, case.vision
    return case.sigma**2 * v * (n - 1) / ((n - t - 1) * (n - t - v - 1))


def slack(case: Regression) -> float:
    """Minus the error of the formula, relative to it."""
    return -abs(case.extra - formula(case)) / formula(case)


def difference() -> sp.Expr:
    """sigma^2 p/(n-p-1) at p = d_T + d_V and at p = d_T, minus the claimed difference."""
    n, t, v, s = sp.symbols("n d_T d_V sigma", positive=True)

    def excess(p: sp.Expr) -> sp.Expr:
        return s**2 * p / (n - p - 1)

    claimed = s**2 * v * (n - 1) / ((n - t - 1) * (n - t - v - 1))
    return sp.simplify(excess(t + v) - excess(t) - claimed)


def proof() -> ProofCheck:
    """E[1/chi^2_k] = 1/(k-2) by integration, then algebra for all dimensions."""
    x, k = sp.symbols("x k", positive=True)
    density = x ** (k / 2 - 1) * sp.exp(-x / 2) / (2 ** (k / 2) * sp.gamma(k / 2))
    even = density.subs(k, 2 * k + 2)  # 2k + 2 degrees: the integral converges for all k > 0
    mean = sp.integrate(even / x, (x, 0, sp.oo), conds="none")
    return collect(
        {
            "E[1/chi^2_{2k+2}] = 1/(2k)": sp.simplify(sp.gammasimp(mean) - 1 / (2 * k)) == 0,
            "the difference of the two excess risks is as claimed": difference() == 0,
        },
        "sympy",
    )


STATEMENT = Statement(
    id="S15a",
    title="after a refit, leaving useless vision out helps by a known amount",
    setting="standard normal features, independent Gaussian noise, OLS refitted with and without "
    "vision; squared error on a new draw; n > d_T + d_V + 1",
    claim="risk(T,V) - risk(T) = sigma^2 d_V (n-1) / ((n-d_T-1)(n-d_T-d_V-1)) > 0",
    source="mean of the inverse Wishart distribution; the difference is worked out here",
    evidence="symbolic",
    domain="all n, d_T, d_V (E tr (X'X)^{-1} = p E[1/chi^2_{n-p+1}] is taken as known)",
    generate=generate,
    slack=slack,
    witness=lambda: Regression(40, 10, 10, 1.0),  # .708
    hypotheses=(
        Hypothesis(
            "useless vision",
            "the answer does not depend on V given T",
            holds=lambda case: case.useful == 0.0,
            counterexample=lambda: Counterexample(
                Regression(40, 10, 10, 1.0, useful=2.0), "vision with coefficients of norm 2 helps"
            ),
        ),
        Hypothesis(
            "no intercept",
            "no intercept is fitted",
            holds=lambda case: not case.intercept,
            counterexample=lambda: Counterexample(
                Regression(40, 10, 10, 1.0, intercept=True),
                "with an intercept the extra risk is another one, at n = 40 by a tenth",
            ),
        ),
    ),
    proof=proof,
    symbolic=difference,
    tolerance=1e-9,
)
