"""A layer can add usable information: the data-processing inequality fails for fixed probes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.pmf import Pmf, as_pmf, entropy, information
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import collect


@dataclass(frozen=True)
class HiddenParity:
    """Y is the parity of n bits, flipped with probability `noise`; a layer appends it.

    Attributes:
        n: number of fair, independent bits, at least 2.
        noise: in (0, 1/2).
        products: whether probes see the product of all inputs too; else they are linear.
    """

    n: int
    noise: float
    products: bool = False

    def inputs(self) -> Pmf:
        """All states of +-1, shape (2^n, n)."""
        bits = np.indices((2,) * self.n).reshape(self.n, -1).T
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)

    def usable(self, features: Pmf) -> float:
        """Log 2 minus the smallest NLL of logistic probes on features, shape (2^n, d)."""
        signs = self.inputs().prod(axis=1)
        design = np.concatenate([features, np.ones((len(features), 1))], axis=1)

        def nll(weights: Pmf) -> float:
            margin = signs * (design @ weights)
            right = (1 - self.noise) * np.logaddexp(0, -margin)
            return float(np.mean(right + self.noise * np.logaddexp(0, margin)))

        best = minimize(nll, np.zeros(design.shape[1]), method="BFGS")
        return float(np.log(2.0) - best.fun)

    def gain(self) -> float:
        """Usable information after the layer minus before it, in nats."""
        before = self.inputs()
        parity = before.prod(axis=1, keepdims=True)
        after = np.concatenate([before, parity], axis=1)
        if self.products:
            before = after  # what such probes make of the states before the layer
        return self.usable(after) - self.usable(before)

    def shannon_gain(self) -> float:
        """The same in mutual information: 0, the layer is invertible."""
        count = 2**self.n
        signs = self.inputs().prod(axis=1)
        right = np.where(signs[:, None] == np.array([1.0, -1.0]), 1 - self.noise, self.noise)
        joint = as_pmf(right)
        after = np.eye(count)[:, :, None] * joint[:, None, :]  # the old state can be read off
        return information(after, [1], [2]) - information(joint, [0], [1])


def generate(rng: np.random.Generator) -> HiddenParity:
    """Two to four bits, any noise."""
    return HiddenParity(int(rng.integers(2, 5)), float(rng.uniform(0.02, 0.48)))


def slack(case: HiddenParity) -> float:
    """The gain minus log 2 - h_b(noise), and minus any gain in mutual information, in nats."""
    promised = np.log(2.0) - entropy(np.array([case.noise, 1 - case.noise]))
    return min(case.gain() - float(promised), -abs(case.shannon_gain()))


def proof() -> ProofCheck:
    """For two bits and every noise q: weights 0 are best before, log((1-q)/q) on parity after.

    The NLL is convex in the weights, so a zero gradient is a minimum. Written in the odds
    r = (1-q)/q, so that every logarithm is of something positive.
    """
    r = sp.Symbol("r", positive=True)
    q = 1 / (1 + r)
    w = sp.symbols("w1:5", real=True)  # two bits, parity, intercept
    total: sp.Expr = sp.Integer(0)
    for a, b in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
        score = a * b * (w[0] * a + w[1] * b + w[2] * a * b + w[3])
        total += (1 - q) * sp.log(1 + sp.exp(-score)) + q * sp.log(1 + sp.exp(score))
    nll = total / 4
    zero = dict.fromkeys(w, 0)
    best = {**zero, w[2]: sp.log(r)}
    margin = sp.Symbol("s", real=True)
    curved = sp.simplify(
        sp.diff(sp.log(1 + sp.exp(-margin)), margin, 2) * (1 + sp.exp(margin)) ** 2
    )
    entropy_q = -q * sp.log(q) - (1 - q) * sp.log(1 - q)
    return collect(
        {
            "log(1 + exp(-s)) is convex": curved == sp.exp(margin),
            "without parity, weights 0 are stationary": all(
                sp.simplify(sp.diff(nll, w[i]).subs(zero)) == 0 for i in (0, 1, 3)
            ),
            "and leave log 2": sp.simplify(nll.subs(zero) - sp.log(2)) == 0,
            "with it, log((1-q)/q) is stationary": all(
                sp.simplify(sp.diff(nll, weight).subs(best)) == 0 for weight in w
            ),
            "and leaves h_b(q)": _same(nll.subs(best), entropy_q),
        },
        "sympy",
    )


def _same(left: sp.Expr, right: sp.Expr) -> bool:
    """Whether two sums of logarithms agree, once each is of a single fraction and expanded."""
    fractions = (left - right).replace(sp.log, lambda inside: sp.log(sp.factor(inside)))
    return bool(sp.simplify(sp.expand_log(fractions, force=True)) == 0)


STATEMENT = Statement(
    id="S14b",
    title="a layer can add usable information",
    setting="F: logistic probes with intercept; Y the parity of n fair bits, flipped with "
    "probability q in (0, 1/2)",
    claim="I_F(layer(Z) -> Y) - I_F(Z -> Y) = log 2 - h_b(q) > 0, while I(layer(Z);Y) = I(Z;Y)",
    source="Xu et al. 2020, arXiv:2002.10689, Section 3; the example is worked out here",
    evidence="symbolic",
    domain="two bits and every q; three and four bits by convex optimisation",
    generate=generate,
    slack=slack,
    witness=lambda: HiddenParity(2, 0.1),
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            "linear probes",
            "F is linear in the state: it cannot compute the parity itself",
            holds=lambda case: not case.products,
            counterexample=lambda: Counterexample(
                HiddenParity(2, 0.1, products=True),
                "probes with products read the parity before the layer as well as after it",
            ),
        ),
    ),
    notes=("An estimate of usable information measures the probe as much as the state.",),
    proof=proof,
    tolerance=1e-6,
)
