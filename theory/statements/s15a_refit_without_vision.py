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
    """OLS on n draws of d_T text and d_V vision features of variance 1.

    Attributes:
        n: draws, at least d_T + d_V + 4.
        text: d_T.
        vision: d_V.
        sigma: standard deviation of the noise.
        useful: norm of the true coefficients of vision.
        intercept: whether an intercept is fitted too.
        features: "normal", or "signs" +-1 (one feature in all: beyond that X'X may be singular).
        even: whether the noise is equally large everywhere; if not, it is sigma |x| times a
            standard normal variable (one feature in all).
    """

    n: int
    text: int
    vision: int
    sigma: float
    useful: float = 0.0
    intercept: bool = False
    features: str = "normal"
    even: bool = True

    def spread(self, regressors: int, n: int) -> float:
        """Expected squared error of the coefficients, in units of the noise variance.

        E tr (X'X)^{-1}: the trace of an inverse Wishart matrix is p E[1/chi^2_{n-p+1}], a ratio
        of gamma functions. For one feature of signs X'X = n. For one normal feature with noise
        |x| it is n E[(x_1^2 / sum x_i^2)^2], the second moment of a beta variable (1/2, (n-1)/2).
        """
        if regressors == 0:
            return 0.0
        if not self.even:
            return n * (1 / 2) * (3 / 2) / ((n / 2) * (n / 2 + 1))
        if self.features == "signs":
            return 1.0 / n
        half = (n - regressors + 1) / 2
        return regressors * float(np.exp(gammaln(half - 1) - gammaln(half))) / 2

    def risk(self, regressors: int, left_out: float) -> float:
        """Expected squared error on a new draw.

        Noise variance times one plus `spread`; with an intercept one degree of freedom goes, and
        1 + 1/n comes.
        """
        n = self.n - 1 if self.intercept else self.n
        base = 1.0 + 1.0 / self.n if self.intercept else 1.0
        return (self.sigma**2 + left_out**2) * base * (1.0 + self.spread(regressors, n))

    @property
    def extra(self) -> float:
        """Risk with vision minus risk without it."""
        return self.risk(self.text + self.vision, 0.0) - self.risk(self.text, self.useful)


def generate(rng: np.random.Generator) -> Regression:
    """Up to 10 + 10 features, from a few to many draws, useless vision."""
    text, vision = int(rng.integers(0, 11)), int(rng.integers(1, 11))
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
    """E[1/chi^2_k] = 1/(k-2) by integration, then algebra for all dimensions.

    An entry on the diagonal of (X'X)^{-1} is one over the Schur complement of the rest of X'X:
    the squared length of one column after projection on the others, chi^2 with n - p + 1 degrees.
    """
    x, k = sp.symbols("x k", positive=True)
    density = x ** (k / 2 - 1) * sp.exp(-x / 2) / (2 ** (k / 2) * sp.gamma(k / 2))
    even = density.subs(k, 2 * k + 2)  # 2k + 2 degrees: the integral converges for all k > 0
    mean = sp.integrate(even / x, (x, 0, sp.oo), conds="none")
    return collect(
        {
            "(W^-1)_11 is one over the Schur complement (p = 2, 3)": all(map(schur, (2, 3))),
            "E[1/chi^2_{2k+2}] = 1/(2k)": sp.simplify(sp.gammasimp(mean) - 1 / (2 * k)) == 0,
            "the difference of the two excess risks is as claimed": difference() == 0,
        },
        "sympy",
    )


def schur(p: int) -> bool:
    """Whether (W^{-1})_11 = 1/(W_11 - W_12 W_22^{-1} W_21) for a symmetric p x p matrix."""
    w = sp.Matrix(p, p, lambda i, j: sp.Symbol(f"w{min(i, j)}{max(i, j)}"))
    complement = w[0, 0] - (w[:1, 1:] * w[1:, 1:].inv() * w[1:, :1])[0, 0]
    return bool(sp.simplify(w.inv()[0, 0] * complement - 1) == 0)


STATEMENT = Statement(
    id="S15a",
    title="after a refit, leaving useless vision out helps by a known amount",
    setting="a linear model, OLS refitted with and without vision; squared error on a new draw; "
    "n > d_T + d_V + 1",
    claim="risk(T,V) - risk(T) = sigma^2 d_V (n-1) / ((n-d_T-1)(n-d_T-d_V-1)) > 0",
    source="mean of the inverse Wishart distribution; the difference is worked out here",
    evidence="symbolic",
    domain="all n, d_T, d_V (that a column's length after projection on p - 1 others is "
    "chi^2_{n-p+1} is taken as known)",
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
            "Gaussian features",
            "(T, V) is Gaussian with mean zero",
            holds=lambda case: case.features == "normal",
            counterexample=lambda: Counterexample(
                Regression(10, 0, 1, 1.0, features="signs"),
                "one feature +-1: X'X = n, so 1/n is paid, not 1/(n-2)",
            ),
        ),
        Hypothesis(
            "even noise",
            "the noise has the same variance at all features",
            holds=lambda case: case.even,
            counterexample=lambda: Counterexample(
                Regression(10, 0, 1, 1.0, even=False),
                "noise as large as the feature: 3/(n+2) is paid, not 1/(n-2)",
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
    superfluous=(
        "Gaussian noise: only its variance enters.",
        "Independent features: X = Z C with Z standard normal gives tr(C'C (X'X)^{-1}) = "
        "tr (Z'Z)^{-1} for every invertible C.",
    ),
    proof=proof,
    symbolic=difference,
)
