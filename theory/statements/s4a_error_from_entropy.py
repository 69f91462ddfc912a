"""P_e <= H(Y|Z)/(2 ln 2) and P_e <= 1 - exp(-H(Y|Z)): few nats left, few errors left."""

from __future__ import annotations

import math

import numpy as np
import sympy as sp

from theory.pmf import Pmf, as_pmf, entropy, random_pmf, softmax_pmf
from theory.statement import ProofCheck, Search, Statement


def generate(rng: np.random.Generator) -> Pmf:
    """A joint pmf of (Z, Y), shape (z, k)."""
    return random_pmf(rng, (int(rng.integers(1, 5)), int(rng.integers(2, 6))))


def slack(p: Pmf) -> float:
    """The smaller of the two bounds minus the Bayes error, both sides from the exact pmf."""
    error = 1.0 - float(p.max(axis=1).sum())
    left = entropy(p, [1], given=[0])
    return min(left / (2.0 * math.log(2.0)), -math.expm1(-left)) - error


def proof() -> ProofCheck:
    """Both bounds for every k, from facts about one variable m = max_y P(y|z).

    (i) H(p) = sum_y p_y log(1/p_y) >= log(1/m), since p_y <= m, and (ii) H(p) >= h_b(m), since
    the indicator of the likeliest answer is a function of Y. By (i), 1 - m <= 1 - exp(-H), and
    t -> 1 - exp(-t) is concave: Jensen over z. For the other bound 1 - m <= H/(2 ln 2) holds by
    (i) where m <= 1/2 and by (ii) where m >= 1/2; it is linear in H, so it survives averaging.
    SymPy checks the two one-variable inequalities by signs of derivatives and values at ends.
    """
    m = sp.Symbol("m", positive=True)
    line = 2 * sp.log(2) * (1 - m)
    low = -sp.log(m) - line  # m in (0, 1/2]: falls to 0 at 1/2
    high = -m * sp.log(m) - (1 - m) * sp.log(1 - m) - line  # m in [1/2, 1]: concave, 0 at ends
    falls = sp.Interval.Lopen(0, sp.Rational(1, 2))
    checks = {
        "-log m - 2 ln2 (1-m) falls on (0, 1/2]": sp.simplify(sp.diff(low, m) * m).subs(m, 0) == -1
        and sp.solveset(sp.diff(low, m), m, falls) is sp.S.EmptySet,
        "it is 0 at 1/2": sp.simplify(low.subs(m, sp.Rational(1, 2))) == 0,
        "h_b(m) - 2 ln2 (1-m) is concave": sp.simplify(sp.diff(high, m, 2) * m * (1 - m)) == -1,
        "0 at 1/2 too": sp.simplify(high.subs(m, sp.Rational(1, 2))) == 0,
        "and at 1": sp.limit(high, m, 1, "-") == 0,
        "1 - exp(-t) is concave": sp.simplify(sp.diff(1 - sp.exp(-m), m, 2) * sp.exp(m)) == -1,
    }
    failed = [name for name, passed in checks.items() if not passed]
    detail = "sympy: " + "; ".join(failed or checks)
    return ProofCheck(not failed, f"not shown: {detail}" if failed else detail)


STATEMENT = Statement(
    id="S4a",
    title="few nats left about the answer, few errors",
    setting="finite alphabets; P_e is the Bayes error of predicting Y from Z",
    claim="P_e <= H(Y|Z) / (2 ln 2)  and  P_e <= 1 - exp(-H(Y|Z)), H in nats",
    source="Hellman & Raviv 1970, Eq. 7; the second by Jensen's inequality",
    evidence="symbolic",
    domain="all joint pmfs of (Z, Y), any finite k",
    generate=generate,
    slack=slack,
    witness=lambda: as_pmf([[1.0, 1.0]]),  # a fair coin: P_e = 1/2, both bounds equal
    proof=proof,
    search=Search(6, lambda vector: softmax_pmf(vector, (2, 3))),
)
