"""Capital of a fair bettor seldom ever becomes large (Ville), so looking is free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_nonnegative, is_zero

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Game:
    """Bets on zeros and ones against "the rate is at least m", over all paths of T outcomes.

    Attributes:
        rate: probability of a one at each step, independent.
        limit: m, the rate under the null hypothesis, in (0, 1).
        delta: capital 1/delta refutes it.
        bets: bet at each node of the tree of outcomes, in heap order, shape (2^T - 1,), as a share
            of the largest bet 1/(1 - m) that cannot lose more than all.
        foresight: whether a bet is placed only where it wins.
    """

    rate: float
    limit: float
    delta: float
    bets: Array
    foresight: bool = False

    def refuted(self, node: int = 0, capital: float = 1.0) -> float:
        """Exact probability that the capital reaches 1/delta at any step from here on."""
        if capital >= (1.0 / self.delta) * (1.0 - 1e-12):
            return 1.0
        if node >= self.bets.size:
            return 0.0
        stake = float(self.bets[node])
        won = capital * (1.0 + stake * self.limit / (1.0 - self.limit))
        lost = capital if self.foresight else capital * (1.0 - stake)
        after_one = self.refuted(2 * node + 2, lost)
        return self.rate * after_one + (1.0 - self.rate) * self.refuted(2 * node + 1, won)


def generate(rng: np.random.Generator) -> Game:
    """A rate at the limit or above, up to 6 outcomes, any bets."""
    limit = float(rng.uniform(0.05, 0.95))
    rate = limit if rng.random() < 0.5 else float(rng.uniform(limit, 1.0))
    bets = rng.random(2 ** int(rng.integers(1, 7)) - 1) ** float(rng.choice([0.2, 1.0, 5.0]))
    return Game(rate, limit, float(rng.uniform(0.05, 0.9)), bets)


def slack(case: Game) -> float:
    """Delta minus the probability that the capital ever reaches 1/delta."""
    return case.delta - case.refuted()


def witness() -> Game:
    """All is bet until the goal: one zero multiplies the capital by 1/(1 - m) = 1/delta."""
    return Game(rate=0.75, limit=0.75, delta=0.25, bets=np.ones(1))


M, BET, DELTA = sp.symbols("m b delta", positive=True)
EXTRA = sp.Symbol("extra", nonnegative=True)
FORMULAS: Formulas = {
    "one bet": Formula(sp.Symbol("E[K_t+1 | past] / K_t"), "<=", sp.Integer(1)),
    "Ville": Formula(sp.Symbol("P(K_t >= 1/delta for some t)"), "<=", DELTA),
}


@about(
    {
        "one bet": Formula(sp.Symbol("E[K_t+1 | past] / K_t"), "<=", None),
        "Ville": Formula(sp.Symbol("P(K_t >= 1/delta for some t)"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """A bet is fair at the rate m and unfair above it; then stop at the first K >= 1/delta.

    With x = 1 at the rate p = m + extra the factor 1 + b (m - x) has mean 1 - b extra. Stopped at
    the first success the capital has mean at most 1 and is at least 1/delta there and nonnegative
    elsewhere, so P/delta <= 1.
    """
    p = M + EXTRA
    mean = p * (1 + BET * (M - 1)) + (1 - p) * (1 + BET * M)
    bound, most = claim["Ville"].right, claim["one bet"].right
    return collect(
        {
            "the mean factor is 1 - b extra": is_zero(mean - (1 - BET * EXTRA)),
            "so it is at most 1": is_nonnegative(sp.expand(most - mean))
            and is_zero(most - mean.subs(EXTRA, 0)),
            "P/delta <= E K at the stop <= 1": is_zero(bound / DELTA - most),
        },
        "sympy",
    )


def decode(vector: Array) -> Game:
    """Three outcomes, seven bets, from 10 numbers."""
    share = 1.0 / (1.0 + np.exp(-np.clip(vector, -30.0, 30.0)))
    limit = float(0.02 + 0.96 * share[0])
    rate = limit + (1.0 - limit) * float(share[1]) ** 4
    return Game(rate, limit, float(0.02 + 0.96 * share[2]), share[3:10])


STATEMENT = Statement(
    id="S18",
    title="a certificate by betting may be looked at after every image",
    setting="x_1, x_2, ... zeros and ones; K_t = prod_{i<=t} (1 + b_i (m - x_i)) with 0 <= b_i <= "
    "1/(1 - m), K_0 = 1",
    claim="P(K_t >= 1/delta for some t) <= delta, if the rate is at least m",
    source="Ville 1939; Waudby-Smith & Ramdas 2024, arXiv 2010.09686, Proposition 2",
    evidence="symbolic",
    domain="any bets and any number of outcomes; exact probabilities over all paths of up to 6 "
    "outcomes",
    formulas=FORMULAS,
    argument="Every factor has mean at most 1 given the past, so the capital stopped at the first "
    "K_t >= 1/delta up to T has mean at most 1; it is at least 1/delta there and nowhere negative "
    "(Markov), for every T and so for all time. A mean of such capitals is one, too, and x in "
    "[0, 1] in place of zeros and ones changes no step.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            "the rate is at the limit or above",
            "P(x_t = 1 | past) >= m",
            holds=lambda case: case.rate >= case.limit,
            counterexample=lambda: Counterexample(
                Game(rate=0.1, limit=0.75, delta=0.25, bets=np.ones(1)),
                "at a true rate of .1 the rate .75 is refuted with probability .9: that is its use",
            ),
        ),
        Hypothesis(
            "bets on what is to come",
            "b_t depends on x_1, ..., x_{t-1} alone",
            holds=lambda case: not case.foresight,
            counterexample=lambda: Counterexample(
                Game(rate=0.75, limit=0.75, delta=0.2, bets=np.ones(15), foresight=True),
                "images on which the bet would lose are left out: the capital only grows",
            ),
        ),
        Hypothesis(
            "never more than all",
            "b_t <= 1/(1 - m), so that the capital is nowhere negative",
            holds=lambda case: bool((case.bets <= 1.0).all() and (case.bets >= 0.0).all()),
            counterexample=lambda: Counterexample(
                Game(rate=0.5, limit=0.5, delta=0.05, bets=np.array([19.0])),
                "with debts, 19 times the capital is bet on a fair coin: it reaches 20 with "
                "probability 1/2",
            ),
        ),
    ),
    notes=(
        "A bound for one look, such as Clopper-Pearson, has no such property: peeking after each "
        "of 2,000 images at a true rate of 2 % certifies 2 % for about one user in five "
        "(`python -m benchmarks.certificates`).",
    ),
    proof=proof,
    search=Search(10, decode),
)
