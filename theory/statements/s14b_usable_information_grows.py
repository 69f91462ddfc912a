"""A layer can increase usable information: fixed probes violate data processing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from theory.formula import EntropyFormula, Formula, Formulas
from theory.pmf import Pmf, as_pmf, entropy, information
from theory.statement import Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements._proofs import about, both, collect, shannon


@dataclass(frozen=True)
class HiddenParity:
    """Y is the parity of n bits, flipped with probability `noise`; a layer appends the parity.

    Attributes:
        n: number of fair, independent bits, at least 2.
        noise: flip probability, in (0, 1/2).
        products: whether probes also use the product of all inputs; otherwise they are linear.
    """

    n: int
    noise: float
    products: bool = False

    def inputs(self) -> Pmf:
        """All states of +-1, shape (2^n, n)."""
        bits = np.indices((2,) * self.n).reshape(self.n, -1).T
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)

    def usable(self, features: Pmf) -> float:
        """Usable information: log 2 minus the smallest NLL of logistic probes on the features."""
        signs = self.inputs().prod(axis=1)
        design = np.concatenate([features, np.ones((len(features), 1))], axis=1)

        def nll(weights: Pmf) -> float:
            """Mean negative log-likelihood of a logistic probe."""
            margin = signs * (design @ weights)
            unflipped = (1 - self.noise) * np.logaddexp(0, -margin)
            return float(np.mean(unflipped + self.noise * np.logaddexp(0, margin)))

        best = minimize(nll, np.zeros(design.shape[1]), method="BFGS")
        return float(np.log(2.0) - best.fun)

    def gain(self) -> float:
        """Usable information after the layer minus that before it, in nats."""
        before = self.inputs()
        parity = before.prod(axis=1, keepdims=True)
        after = np.concatenate([before, parity], axis=1)
        if self.products:
            before = after  # probes with products compute the parity themselves
        return self.usable(after) - self.usable(before)

    def shannon_gain(self) -> float:
        """Mutual information after the layer minus that before it; 0 for an invertible layer."""
        count = 2**self.n
        signs = self.inputs().prod(axis=1)
        likelihood = np.where(signs[:, None] == np.array([1.0, -1.0]), 1 - self.noise, self.noise)
        joint = as_pmf(likelihood)
        after = np.eye(count)[:, :, None] * joint[:, None, :]  # the layer is invertible
        return information(after, [1], [2]) - information(joint, [0], [1])


def generate(rng: np.random.Generator) -> HiddenParity:
    """Two to four bits, any noise."""
    return HiddenParity(int(rng.integers(2, 5)), float(rng.uniform(0.02, 0.48)))


def slack(case: HiddenParity) -> float:
    """Gain minus (log 2 - h_b(noise)), or minus the change of mutual information, in nats."""
    claimed = np.log(2.0) - entropy(np.array([case.noise, 1 - case.noise]))
    return min(case.gain() - float(claimed), -abs(case.shannon_gain()))


NOISE = sp.Symbol("q", positive=True)
FORMULAS: Formulas = {
    "gain": Formula(
        sp.Symbol("I_F(layer(Z)->Y)-I_F(Z->Y)"),
        "=",
        sp.log(2) + NOISE * sp.log(NOISE) + (1 - NOISE) * sp.log(1 - NOISE),
    ),
    "mutual information": EntropyFormula("I(Z,P;Y) = I(Z;Y)", ("P = f(Z)",)),
}


@about({"gain": Formula(sp.Symbol("I_F(layer(Z)->Y)-I_F(Z->Y)"), "=", None)})
def proof(claim: Formulas) -> ProofCheck:
    """For two bits and every q: optimal weights are 0 before, and log((1-q)/q) on parity after.

    The NLL is convex in the weights, so a stationary point is a minimum. The odds r = (1-q)/q make
    all arguments of logarithms positive.
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
    gain = claim["gain"]
    before = sp.log(2)
    optimum = collect(
        {
            "log(1 + exp(-s)) is convex": curved == sp.exp(margin),
            "without parity, weights 0 are stationary": all(
                sp.simplify(sp.diff(nll, w[i]).subs(zero)) == 0 for i in (0, 1, 3)
            ),
            "their NLL is log 2": sp.simplify(nll.subs(zero) - before) == 0,
            "with parity, weight log((1-q)/q) on it is stationary": all(
                sp.simplify(sp.diff(nll, weight).subs(best)) == 0 for weight in w
            ),
            "log 2 minus its NLL is the claimed gain": _same(
                before - nll.subs(best), gain.right.subs(NOISE, q)
            ),
        },
        "sympy",
    )
    return both(optimum, shannon(claim))


def _same(left: sp.Expr, right: sp.Expr) -> bool:
    """Whether two sums of logarithms of rational functions are equal."""
    fractions = (left - right).replace(sp.log, lambda inside: sp.log(sp.factor(inside)))
    return bool(sp.simplify(sp.expand_log(fractions, force=True)) == 0)


STATEMENT = Statement(
    id="S14b",
    title="a layer can increase usable information",
    setting="F the logistic probes with intercept; Z n fair bits; Y their parity, flipped with "
    "probability q in (0, 1/2); the layer appends the parity to Z",
    claim="I_F(layer(Z) -> Y) - I_F(Z -> Y) = log 2 - h_b(q) > 0, while I(layer(Z);Y) = I(Z;Y)",
    source="Xu et al. 2020, arXiv:2002.10689, Section 3; the example is derived in this project",
    evidence="symbolic",
    domain="two bits and every q by SymPy; three and four bits in the drawn instances, by convex "
    "optimisation",
    formulas=FORMULAS,
    argument="The NLL is convex in the weights, so a stationary point is a minimum. The gain is "
    "positive because h_b(q) < log 2 for q < 1/2.",
    generate=generate,
    slack=slack,
    witness=lambda: HiddenParity(2, 0.1),
    witness_slack=1e-6,
    hypotheses=(
        Hypothesis(
            "linear probes",
            "probes in F are linear in the state, so they cannot compute the parity",
            holds=lambda case: not case.products,
            counterexample=lambda: Counterexample(
                HiddenParity(2, 0.1, products=True),
                "probes with products compute the parity before the layer too: the gain is 0",
            ),
        ),
    ),
    notes=("Usable information depends on the family of probes as much as on the state.",),
    proof=proof,
    tolerance=1e-6,
)
