"""Excess risk sigma^2 d_V (n-1)/((n-d_T-1)(n-d_T-d_V-1)) of d_V useless regressors in OLS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp
from scipy.special import gammaln

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import about, collect, is_zero


@dataclass(frozen=True)
class Regression:
    """OLS on n samples of d_T text and d_V vision features of variance 1.

    Attributes:
        n: number of samples, at least d_T + d_V + 4.
        text: d_T.
        vision: d_V.
        sigma: standard deviation of the noise.
        useful: norm of the true coefficients of vision.
        intercept: whether an intercept is fitted.
        features: "normal", or "signs" +-1 (for a single feature; otherwise X'X can be singular).
        homoscedastic: whether the variance of the noise is constant; if not, the noise is
            sigma |x| times a standard normal variable (for a single feature).
    """

    n: int
    text: int
    vision: int
    sigma: float
    useful: float = 0.0
    intercept: bool = False
    features: str = "normal"
    homoscedastic: bool = True

    def spread(self, regressors: int, n: int) -> float:
        """Expected squared error of the coefficients, in units of the noise variance.

        It is E tr (X'X)^{-1}. For an inverse Wishart matrix this is p E[1/chi^2_{n-p+1}], a ratio
        of gamma functions. For one feature of signs X'X = n. For one normal feature with noise
        proportional to |x| it is n E[B^2] with B = x_1^2 / sum_i x_i^2 ~ Beta(1/2, (n-1)/2).
        """
        if regressors == 0:
            return 0.0
        if not self.homoscedastic:
            return n * (1 / 2) * (3 / 2) / ((n / 2) * (n / 2 + 1))
        if self.features == "signs":
            return 1.0 / n
        half = (n - regressors + 1) / 2
        return regressors * float(np.exp(gammaln(half - 1) - gammaln(half))) / 2

    def risk(self, regressors: int, left_out: float) -> float:
        """Expected squared error on a new sample.

        The noise variance times (1 + `spread`). With an intercept the degrees of freedom decrease
        by one and the risk is multiplied by 1 + 1/n.
        """
        n = self.n - 1 if self.intercept else self.n
        base = 1.0 + 1.0 / self.n if self.intercept else 1.0
        return (self.sigma**2 + left_out**2) * base * (1.0 + self.spread(regressors, n))

    @property
    def extra(self) -> float:
        """Risk with vision minus risk without it."""
        return self.risk(self.text + self.vision, 0.0) - self.risk(self.text, self.useful)


def generate(rng: np.random.Generator) -> Regression:
    """Up to 10 + 10 features, 4 to 103 more samples than features, useless vision."""
    text, vision = int(rng.integers(0, 11)), int(rng.integers(1, 11))
    n = text + vision + int(rng.integers(4, 100))
    return Regression(n, text, vision, float(rng.uniform(0.1, 2.0)))


def formula(case: Regression) -> float:
    """Claimed excess risk."""
    n, t, v = case.n, case.text, case.vision
    return case.sigma**2 * v * (n - 1) / ((n - t - 1) * (n - t - v - 1))


def slack(case: Regression) -> float:
    """Minus the relative error of the formula."""
    return -abs(case.extra - formula(case)) / formula(case)


N, T, V, SIGMA = sp.symbols("n d_T d_V sigma", positive=True)
FORMULAS: Formulas = {
    "excess risk": Formula(
        sp.Symbol("risk(T,V)-risk(T)"),
        "=",
        SIGMA**2 * V * (N - 1) / ((N - T - 1) * (N - T - V - 1)),
    ),
}


def excess(p: sp.Expr) -> sp.Expr:
    """Excess risk sigma^2 p E[1/chi^2_{n-p+1}] = sigma^2 p/(n-p-1) of p regressors."""
    return SIGMA**2 * p / (N - p - 1)


@about({"excess risk": Formula(sp.Symbol("risk(T,V)-risk(T)"), "=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """E[1/chi^2_k] = 1/(k-2) by integration, then algebra for all dimensions.

    A diagonal entry of (X'X)^{-1} is the reciprocal of a Schur complement: the squared norm of a
    column of X after projection orthogonal to the other columns, chi^2 with n - p + 1 degrees of
    freedom.
    """
    formula = claim["excess risk"]
    return collect(
        {
            "(W^-1)_11 is the reciprocal of the Schur complement (p = 2, 3)": all(
                map(schur, (2, 3))
            ),
            "E[1/chi^2_{2k+2}] = 1/(2k)": inverse_chi2(),
            "the difference of the excess risks equals the claim": is_zero(
                excess(T + V) - excess(T) - formula.right
            ),
        },
        "sympy",
    )


@cache
def inverse_chi2() -> bool:
    """Whether E[1/chi^2_{2k+2}] = 1/(2k), by integration."""
    x, k = sp.symbols("x k", positive=True)
    density = x ** (k / 2 - 1) * sp.exp(-x / 2) / (2 ** (k / 2) * sp.gamma(k / 2))
    chi2 = density.subs(k, 2 * k + 2)  # 2k + 2 degrees: the integral converges for all k > 0
    mean = sp.integrate(chi2 / x, (x, 0, sp.oo), conds="none")
    return bool(sp.simplify(sp.gammasimp(mean) - 1 / (2 * k)) == 0)


@cache
def schur(p: int) -> bool:
    """Whether (W^{-1})_11 = 1/(W_11 - W_12 W_22^{-1} W_21) for a symmetric p x p matrix."""
    w = sp.Matrix(p, p, lambda i, j: sp.Symbol(f"w{min(i, j)}{max(i, j)}"))
    complement = w[0, 0] - (w[:1, 1:] * w[1:, 1:].inv() * w[1:, :1])[0, 0]
    return bool(sp.simplify(w.inv()[0, 0] * complement - 1) == 0)


STATEMENT = Statement(
    id="S15a",
    title="excess risk of useless vision features after a refit",
    setting="linear model; OLS refitted with and without vision; risk(.) the expected squared "
    "error on a new sample; n > d_T + d_V + 1",
    claim="risk(T,V) - risk(T) = sigma^2 d_V (n-1) / ((n-d_T-1)(n-d_T-d_V-1)) > 0",
    source="mean of the inverse Wishart distribution; the difference is derived in this project",
    evidence="symbolic",
    domain="all n, d_T, d_V with n > d_T + d_V + 1",
    formulas=FORMULAS,
    argument="The risk of p regressors is sigma^2 (1 + E tr (X'X)^{-1}) for zero-mean features. "
    "Each diagonal entry of the inverse is the reciprocal of the squared norm of a Gaussian "
    "column after projection orthogonal to the p - 1 others, chi^2 with n - p + 1 degrees of "
    "freedom; SymPy checks the Schur complement for p = 2 and 3.",
    generate=generate,
    slack=slack,
    witness=lambda: Regression(40, 10, 10, 1.0),  # .708
    hypotheses=(
        Hypothesis(
            "useless vision",
            "the answer does not depend on V given T",
            holds=lambda case: case.useful == 0.0,
            counterexample=lambda: Counterexample(
                Regression(40, 10, 10, 1.0, useful=2.0),
                "vision with coefficients of norm 2 lowers the risk",
            ),
        ),
        Hypothesis(
            "Gaussian features",
            "(T, V) is Gaussian with mean zero",
            holds=lambda case: case.features == "normal",
            counterexample=lambda: Counterexample(
                Regression(10, 0, 1, 1.0, features="signs"),
                "for one feature +-1, X'X = n: the excess risk is sigma^2/n, not sigma^2/(n-2)",
            ),
        ),
        Hypothesis(
            "homoscedastic noise",
            "the variance of the noise does not depend on the features",
            holds=lambda case: case.homoscedastic,
            counterexample=lambda: Counterexample(
                Regression(10, 0, 1, 1.0, homoscedastic=False),
                "for noise proportional to |x| the excess risk is 3 sigma^2/(n+2), not "
                "sigma^2/(n-2)",
            ),
        ),
        Hypothesis(
            "no intercept",
            "no intercept is fitted",
            holds=lambda case: not case.intercept,
            counterexample=lambda: Counterexample(
                Regression(40, 10, 10, 1.0, intercept=True),
                "with an intercept the excess risk differs, at n = 40 by a tenth",
            ),
        ),
    ),
    superfluous=(
        "Gaussian noise: the risk depends only on its variance.",
        "Independent features: for X = Z C with Z standard normal, tr(C'C (X'X)^{-1}) = "
        "tr (Z'Z)^{-1} for every invertible C.",
    ),
    proof=proof,
)
