"""KL <= osc(dz)^2/8 both ways, TV <= tanh(osc/4), |d log p| <= osc."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import sympy as sp

from theory.formula import Formula, Formulas
from theory.pmf import kl_divergence, softmax_pmf
from theory.statement import ProofCheck, Search, Statement
from theory.statements._pairs import Array
from theory.statements._proofs import about, both, collect, is_nonnegative, is_zero


def generate(rng: np.random.Generator) -> Array:
    """Logits and their change, shape (2, k); half of the changes take only two values."""
    k = int(rng.integers(2, 8))
    z = rng.standard_normal(k) * rng.choice([0.1, 1.0, 5.0])
    change = rng.standard_normal(k) * rng.choice([0.01, 1.0, 5.0])
    if rng.random() < 0.5:
        change = np.sign(change) * abs(change[0])
    return np.stack([z, change])


def slack(case: Array) -> float:
    """Smallest margin of the four bounds, in nats for KL."""
    p, q = (softmax_pmf(z / 3.0, z.shape) for z in (case[0], case[0] + case[1]))
    osc = float(np.ptp(case[1]))
    kl = max(kl_divergence(p, q), kl_divergence(q, p))
    tv = float(np.abs(p - q).sum()) / 2
    logs = float(np.abs(np.log(q) - np.log(p)).max())
    return min(osc**2 / 8 - kl, float(np.tanh(osc / 4)) - tv, osc - logs)


OSC = sp.Symbol("osc", positive=True)
FORMULAS: Formulas = {
    "KL": Formula(sp.Symbol("max(KL(p||q),KL(q||p))"), "<=", OSC**2 / 8),
    "TV": Formula(sp.Symbol("TV(p,q)"), "<=", sp.tanh(OSC / 4)),
    "log p": Formula(sp.Symbol("max|log(q/p)|"), "<=", OSC),
}


@cache
def hoeffding_lemma() -> Mapping[str, bool]:
    """The checks of KL <= osc^2/8 that do not depend on the bound.

    log(q/p) = dz - psi(1) with psi(s) = log E_p exp(s dz), so KL(p||q) = psi(1) - psi'(0) =
    int_0^1 (1-s) psi'' ds, and KL(q||p) = psi'(1) - psi(1) = int_0^1 s psi'' ds. psi'' is the
    variance of dz under the pmf tilted by s; dz lies in [low, low + osc].
    """
    s, mean, low, square = sp.symbols("s mean low square", real=True)
    m, psi = sp.Function("m")(s), sp.Function("psi")(s)
    slope, curvature = sp.diff(psi, s), sp.diff(psi, s, 2)
    tilted = sp.diff(m, s, 2) / m - (sp.diff(m, s) / m) ** 2
    # E (low + osc - x)(x - low) >= 0 for x in [low, low + osc]; square = E x^2
    product = (2 * low + OSC) * mean - low * (low + OSC) - square
    margin = OSC**2 / 4 - (square - mean**2) - product
    by_parts = (sp.diff((1 - s) * slope + psi, s), sp.diff(s * slope - psi, s))
    return {
        "(log m)'' = m''/m - (m'/m)^2": sp.simplify(sp.diff(sp.log(m), s, 2) - tilted) == 0,
        "osc^2/4 - variance is at least a square": sp.expand(margin - (mean - low - OSC / 2) ** 2)
        == 0,
        "((1-s) psi' + psi)' = (1-s) psi''": sp.expand(by_parts[0] - (1 - s) * curvature) == 0,
        "(s psi' - psi)' = s psi''": sp.expand(by_parts[1] - s * curvature) == 0,
    }


def hoeffding(bound: sp.Expr) -> ProofCheck:
    """KL <= bound both ways, for any p and any k: psi'' is at most osc^2/4."""
    s = sp.Symbol("s", real=True)
    integrals = [sp.integrate(weight * OSC**2 / 4, (s, 0, 1)) for weight in (1 - s, s)]
    covered = all(is_nonnegative(sp.expand(bound - integral)) for integral in integrals)
    name = "the bound is at least the integrals of (1-s) osc^2/4 and of s osc^2/4"
    return collect({**hoeffding_lemma(), name: covered}, "sympy")


def total_variation(bound: sp.Expr) -> ProofCheck:
    """TV = E_p (r-1)_+ for the ratio r = q/p, which has E r = 1 and lies in [m, m e^osc], m <= 1.

    (r-1)_+ lies below its chord on [m, M], so TV <= (M-1)(1-m)/(M-m). With y = e^{osc/2} and
    M = m y^2 that is at most (y-1)/(y+1) = tanh(osc/4).
    """
    m, r, top, y = sp.symbols("m r M y", positive=True)
    chord = (top - 1) * (r - m) / (top - m) - (r - 1)
    largest = (y**2 * m - 1) * (1 - m) / (y**2 * m - m)
    remainder = (m * y - 1) ** 2 / (m * (y**2 - 1))
    end = bound.subs(OSC, 2 * sp.log(y)) - (y - 1) / (y + 1)
    return collect(
        {
            "chord - (r-1) = (M-r)(1-m)/(M-m)": sp.simplify(chord - (top - r) * (1 - m) / (top - m))
            == 0,
            "(y-1)/(y+1) minus the mean of the chord is (my-1)^2/(m(y^2-1))": sp.simplify(
                (y - 1) / (y + 1) - largest - remainder
            )
            == 0,
            "the bound is (y-1)/(y+1) at y = exp(osc/2)": is_zero(end.rewrite(sp.exp)),
        },
        "sympy",
    )


@about(
    {
        "KL": Formula(sp.Symbol("max(KL(p||q),KL(q||p))"), "<=", None),
        "TV": Formula(sp.Symbol("TV(p,q)"), "<=", None),
        "log p": Formula(sp.Symbol("max|log(q/p)|"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """KL and TV; for log p, log(q/p) = dz - psi(1) with psi(1) between min dz and max dz."""
    widest = collect(
        {
            "two points of [min dz, max dz] differ by at most osc": is_nonnegative(
                claim["log p"].right - OSC
            )
        },
        "sympy",
    )
    return both(hoeffding(claim["KL"].right), total_variation(claim["TV"].right), widest)


STATEMENT = Statement(
    id="S7",
    title="bounds on the change of an answer from the change of its logits",
    setting="p and q the softmax of k logits before and after a change dz; osc = max dz - min dz",
    claim="KL(p||q), KL(q||p) <= osc^2/8 nats;  TV <= tanh(osc/4);  max |log p - log q| <= osc",
    source="Hoeffding 1963, Lemma 1, for KL; the others by the same two-point argument",
    evidence="symbolic",
    domain="all logits and all changes, any k",
    formulas=FORMULAS,
    argument="With psi(s) = log E_p exp(s dz): log(q/p) = dz - psi(1), KL(p||q) and KL(q||p) "
    "are the integrals of (1-s) psi'' and s psi'' over [0, 1], and psi'' is the variance of dz "
    "under a tilted pmf, at most osc^2/4 since E (max - dz)(dz - min) >= 0. For TV, r = q/p has "
    "mean 1 and max r / min r <= e^osc, and (r-1)_+ lies below its chord.",
    generate=generate,
    slack=slack,
    witness=lambda: np.array([[0.5, -0.5], [-1.0, 1.0]]),  # odds e to 1/e: TV = tanh(1/2)
    notes=(
        "The constants are optimal: two answers whose odds change from e^{-osc/2} to e^{osc/2} "
        "attain the bound on TV for every osc, and KL/osc^2 tends to 1/8 as osc tends to 0.",
    ),
    proof=proof,
    search=Search(8, lambda vector: 3.0 * np.tanh(vector.reshape(2, 4))),
)
