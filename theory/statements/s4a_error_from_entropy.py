"""P_e <= H(Y|Z)/(2 ln 2) and P_e <= 1 - exp(-H(Y|Z)) for the Bayes error P_e."""

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
    """Smaller bound minus the Bayes error."""
    error = 1.0 - float(p.max(axis=1).sum())
    nats = entropy(p, [1], given=[0])
    return min(nats / (2.0 * math.log(2.0)), -math.expm1(-nats)) - error


def proof() -> ProofCheck:
    """Both bounds for every k, from inequalities in the variable m = max_y P(y|z).

    (i) H(p) = sum_y p_y log(1/p_y) >= log(1/m), since p_y <= m. (ii) H(p) >= h_b(m), since the
    indicator of the most probable answer is a function of Y. By (i), 1 - m <= 1 - exp(-H), which is
    concave in H; apply Jensen's inequality over z. For the other bound, 1 - m <= H/(2 ln 2) follows
    from (i) if m <= 1/2 and from (ii) if m >= 1/2; it is linear in H, so it holds on average. SymPy
    checks both inequalities by signs of derivatives and values at endpoints.
    """
    m = sp.Symbol("m", positive=True)
    line = 2 * sp.log(2) * (1 - m)
    low = -sp.log(m) - line  # on (0, 1/2]: decreases to 0 at 1/2
    high = -m * sp.log(m) - (1 - m) * sp.log(1 - m) - line  # on [1/2, 1]: concave, 0 at both ends
    left_half = sp.Interval.Lopen(0, sp.Rational(1, 2))
    checks = {
        "-log m - 2 ln2 (1-m) decreases on (0, 1/2]": sp.simplify(sp.diff(low, m) * m).subs(m, 0)
        == -1
        and sp.solveset(sp.diff(low, m), m, left_half) is sp.S.EmptySet,
        "-log m - 2 ln2 (1-m) is 0 at 1/2": sp.simplify(low.subs(m, sp.Rational(1, 2))) == 0,
        "h_b(m) - 2 ln2 (1-m) is concave": sp.simplify(sp.diff(high, m, 2) * m * (1 - m)) == -1,
        "h_b(m) - 2 ln2 (1-m) is 0 at 1/2": sp.simplify(high.subs(m, sp.Rational(1, 2))) == 0,
        "h_b(m) - 2 ln2 (1-m) is 0 at 1": sp.limit(high, m, 1, "-") == 0,
        "1 - exp(-t) is concave": sp.simplify(sp.diff(1 - sp.exp(-m), m, 2) * sp.exp(m)) == -1,
    }
    failed = [name for name, passed in checks.items() if not passed]
    detail = "sympy: " + "; ".join(failed or checks)
    return ProofCheck(not failed, f"not proved: {detail}" if failed else detail)


STATEMENT = Statement(
    id="S4a",
    title="a small conditional entropy implies a small Bayes error",
    setting="finite alphabets; P_e the Bayes error of predicting Y from Z",
    claim="P_e <= H(Y|Z) / (2 ln 2)  and  P_e <= 1 - exp(-H(Y|Z)), H in nats",
    source="Hellman & Raviv 1970, Eq. 7; the second bound by Jensen's inequality",
    evidence="symbolic",
    domain="all joint pmfs of (Z, Y), any finite k",
    generate=generate,
    slack=slack,
    witness=lambda: as_pmf([[1.0, 1.0]]),  # a fair coin: P_e = 1/2, equal to both bounds
    proof=proof,
    search=Search(6, lambda vector: softmax_pmf(vector, (2, 3))),
)
