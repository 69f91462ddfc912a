"""For a scalar Gaussian target the MMI (minimum mutual information) PID equals the BROJA PID."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.statement import Counterexample, Hypothesis, ProofCheck, Search, Statement
from theory.symbolic_pid import gaussian_pid
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


def prove() -> ProofCheck:
    """For 0 < b <= a, T' = (b/a) V + noise has the law of T given Y, and Y - V - T' is Markov."""
    a, b = sp.symbols("a b", positive=True)
    with_v = b / a  # Cov(V, T')
    noise = 1 - with_v**2
    checks = {
        "Cov(Y, T') = b": sp.simplify(a * with_v - b),
        "Var T' = 1": sp.simplify(with_v**2 + noise - 1),
        "Cov(Y, T' | V) = 0": sp.simplify(b - a * with_v),
    }
    determinant = sp.factor(1 - a**2 - b**2 - with_v**2 + 2 * a * b * with_v)
    i_vt = sp.log((1 - with_v**2) / determinant) / 2
    i_v = -sp.log(1 - a**2) / 2
    checks["I_Q(Y; V, T') = I(Y; V)"] = sp.simplify(
        sp.exp(2 * sp.simplify(i_vt - i_v)).simplify() - 1
    )
    failed = [name for name, residual in checks.items() if residual != 0]
    return ProofCheck(
        not failed,
        f"fails: {', '.join(failed)}" if failed else "sympy: " + "; ".join(checks),
    )


def symbolic() -> Any:
    """Four atoms as functions of the correlations."""
    return gaussian_pid(*sp.symbols("rho_YV rho_YT rho_VT", real=True)).atoms


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
    domain="scalar sources by SymPy; random vector sources through E[Y|V] and E[Y|T]",
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
    symbolic=symbolic,
    search=Search(15, decode),
    tolerance=1e-7,
)
