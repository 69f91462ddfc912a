"""For a scalar Gaussian target the MMI (minimum mutual information) PID equals the BROJA PID."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.statements._proofs import about, collect, is_zero
from theory.systems import GaussianSystem, gate, gaussian_system


@dataclass(frozen=True, eq=False)
class Sources:
    """A target and two sources.

    Attributes:
        system: Gaussian system, or the name of a gate in `theory.systems`.
    """

    system: GaussianSystem | str


def generate(rng: np.random.Generator) -> Sources:
    """A scalar Gaussian target with sources of up to 4 dimensions."""
    dims = (1, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    return Sources(gaussian_system(dims, seed=int(rng.integers(2**31))))


def slack(case: Sources) -> float:
    """Minimum of the smallest atom and minus the gap between max(I_V, I_T) and BROJA's union."""
    if isinstance(case.system, str):
        known = gate(case.system)
        first, second, _ = known.informations()
        atoms = known.atoms("broja")
        union = sum(atoms[name] for name in ("redundant", "unique_1", "unique_2"))
        return max(first, second) - union
    first, second = case.system.information("V"), case.system.information("T")
    if case.system.dims[0] > 1:
        return max(first, second) - _union_floor(case.system)
    gap = max(first, second) - _coupled_information(case.system)
    return min(-abs(gap), min(case.system.atoms().values()))


def _coupled_information(system: GaussianSystem) -> float:
    """I_Q(Y; V, T') for a coupling Q in which the weaker source T' is a garbling of V.

    With E[Y|V] of variance a^2 and c = Cov(T, Y), T' = c E[Y|V] / a^2 + noise of covariance
    S_T - c c' / a^2 has the same joint law with Y as T. It exists if c' S_T^-1 c <= a^2.
    """
    _, v, t = system.dims
    c = system.covariance
    strong, weak = list(range(1, 1 + v)), list(range(1 + v, 1 + v + t))
    if system.information("T") > system.information("V"):
        strong, weak = weak, strong
    with_y = c[strong, 0]
    weights = np.linalg.solve(c[np.ix_(strong, strong)], with_y)
    a2 = float(weights @ with_y)
    if a2 < 1e-100:
        return 0.0  # both sources are independent of the target
    cross = np.outer(with_y, c[weak, 0]) / a2
    noise = c[np.ix_(weak, weak)] - np.outer(c[weak, 0], c[weak, 0]) / a2
    if float(np.linalg.eigvalsh(noise).min()) < -1e-9:
        return math.inf  # the coupling does not exist
    joint = np.block([[c[np.ix_(strong, strong)], cross], [cross.T, c[np.ix_(weak, weak)]]])
    covariance_with_y = np.concatenate([with_y, c[weak, 0]])
    coefficients = np.linalg.lstsq(joint, covariance_with_y, rcond=None)[0]
    explained = float(covariance_with_y @ coefficients)
    return -0.5 * math.log1p(-explained / float(c[0, 0]))


def _union_floor(system: GaussianSystem) -> float:
    """Lower bound I_V + I_T on the union for independent Y1, Y2 with V from Y1 and T from Y2.

    I_Q(Y; V, T) >= I(Y1; V) + I(Y2; T | Y1) for every Q with these marginals.
    """
    return system.information("V") + system.information("T")


def witness() -> Sources:
    """A random system; equality holds for every scalar target."""
    return Sources(gaussian_system((1, 2, 2), seed=1))


A, B = sp.symbols("a b", positive=True)  # correlations of Y with V and T, b <= a < 1
FORMULAS: Formulas = {
    "union": Formula(sp.Symbol("I_union"), "=", -sp.log(1 - A**2) / 2),
    "redundancy": Formula(sp.Symbol("R"), "=", -sp.log(1 - B**2) / 2),
}


@about(
    {
        "union": Formula(sp.Symbol("I_union"), "=", None),
        "redundancy": Formula(sp.Symbol("R"), "=", None),
    }
)
def prove(claim: Formulas) -> ProofCheck:
    """For 0 < b <= a, T' = (b/a) V + noise has the law of T given Y, and Y - V - T' is Markov."""
    with_v = B / A  # Cov(V, T')
    noise = 1 - with_v**2
    determinant = sp.factor(1 - A**2 - B**2 - with_v**2 + 2 * A * B * with_v)
    coupled = (1 - with_v**2) / determinant  # exp(2 I_Q(Y; V, T'))
    informations = 1 / (1 - A**2), 1 / (1 - B**2)  # exp(2 I(Y;V)), exp(2 I(Y;T))
    union, redundancy = (sp.exp(2 * claim[name].right) for name in ("union", "redundancy"))
    return collect(
        {
            "Cov(Y, T') = b": is_zero(A * with_v - B),
            "Var T' = 1": is_zero(with_v**2 + noise - 1),
            "Cov(Y, T' | V) = 0": is_zero(B - A * with_v),
            "I_Q(Y; V, T') is the claimed union": is_zero(coupled - union),
            "I_V + I_T - union is the claimed redundancy": is_zero(
                informations[0] * informations[1] / coupled - redundancy
            ),
        },
        "sympy",
    )


def decode(vector: NDArray[np.float64]) -> Sources:
    """System of dimensions (1, 2, 2) from the Cholesky factor of its covariance."""
    factor = np.zeros((5, 5))
    factor[np.tril_indices(5)] = np.clip(vector, -5.0, 5.0)
    factor[np.diag_indices(5)] = np.exp(np.clip(np.diag(factor), -1.5, 1.5))
    c = factor @ factor.T
    scale = 1.0 / np.sqrt(np.diag(c))
    return Sources(GaussianSystem(c * scale[:, None] * scale, (1, 2, 2)))


def not_gaussian() -> Counterexample:
    """Two independent bits, one in each source."""
    return Counterexample(
        Sources("unique"),
        "for Y = (V, T), two independent bits, the redundancy is 1 bit by MMI and 0 by BROJA",
    )


def two_targets() -> Counterexample:
    """Y = (Y1, Y2), V depends on Y1 and T on Y2."""
    c = np.eye(4)
    c[0, 2] = c[2, 0] = c[1, 3] = c[3, 1] = 0.8
    return Counterexample(
        Sources(GaussianSystem(c, (2, 1, 1))),
        "for Y = (Y1, Y2), V a noisy copy of Y1 and T of Y2, the redundancy is .51 nats by MMI and "
        "0 by BROJA",
    )


STATEMENT = Statement(
    id="S13",
    title="PID of a scalar Gaussian target",
    setting="Y, V, T jointly distributed; positive definite covariance if Gaussian",
    claim="the BROJA redundancy is R = min(I(Y;V), I(Y;T)), and the union information is "
    "max(I(Y;V), I(Y;T))",
    source="Barrett 2015, arXiv 1411.2832",
    evidence="symbolic",
    domain="scalar sources of unit variance, with correlation a of Y with V at least that of Y "
    "with T, "
    "b; the drawn instances have vector sources",
    formulas=FORMULAS,
    argument="Every coupling with the marginals of (Y,V) and (Y,T) has information at least "
    "max(I(Y;V), I(Y;T)), and the coupling through T' attains it, so it is the BROJA union; R = "
    "I(Y;V) + I(Y;T) - union by the consistency equations. A negative correlation is one of -T; "
    "a vector source enters through E[Y|V], which is sufficient for a scalar Gaussian target.",
    generate=generate,
    slack=slack,
    witness=witness,
    hypotheses=(
        Hypothesis(
            name="jointly Gaussian",
            text="Y, V and T are jointly Gaussian",
            holds=lambda case: not isinstance(case.system, str),
            counterexample=not_gaussian,
        ),
        Hypothesis(
            name="scalar target",
            text="Y has one dimension",
            holds=lambda case: isinstance(case.system, str) or case.system.dims[0] == 1,
            counterexample=two_targets,
        ),
    ),
    notes=(
        "Early exit loses U_V + S = I(Y;V|T), which is 0 iff the partial covariance of Y and V "
        "given T is 0.",
    ),
    proof=prove,
    search=Search(15, decode),
    tolerance=1e-7,
)
