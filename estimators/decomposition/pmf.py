"""PID of a given distribution, under a chosen measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._pmf import as_pmf, check_unit
from estimators.decomposition.broja import TOLERANCE, solve_broja
from estimators.decomposition.ccs import redundancy_ccs
from estimators.decomposition.dit_measures import DIT_MEASURES, dit_decomposition
from estimators.decomposition.redundancy import information, redundancy_imin, redundancy_mmi
from estimators.decomposition.result import PID

Floats = NDArray[np.float64]

AXES = "x1, x2, y"
COUNTS = "pid_from_counts(counts)"

#: Redundancy, in nats, of the measures that are defined by it.
_REDUNDANCIES: dict[str, Callable[[Floats], float]] = {
    "imin": redundancy_imin,
    "mmi": redundancy_mmi,
    "ccs": redundancy_ccs,
}

#: Measures implemented here; other names are looked up in dit.
MEASURES = ("broja", *_REDUNDANCIES)


def pid_from_pmf(p: ArrayLike, *, measure: str = "broja", unit: str = "nats") -> PID:
    """Partial information decomposition of I(X1, X2; Y) of a known distribution.

        "broja"  R = I_1 + I_2 - I_union, I_union = min of I_Q(X1, X2; Y) over the joints Q with
                 the marginals (X1, Y) and (X2, Y); with a certified interval for I_union
        "imin"   R = sum_y p(y) min_i I(X_i; Y=y)
        "mmi"    R = min(I(X1; Y), I(X2; Y))
        "ccs"    R = mean common change in surprisal under the maximum-entropy joint with the
                 three pairwise marginals; atoms may be negative

    The other atoms follow from the sum rules of `PID`.

    Args:
        p: array p[x1, x2, y] of probabilities that sum to one. The target is the last axis.
        measure: one of the above, or the lower-case name of a measure of dit, such as "proj" or
            "dep" for dit.pid.PID_Proj or PID_dep.
        unit: "nats" or "bits".

    Raises:
        ValueError: probabilities that are negative, not finite or do not sum to one, wrong
            number of axes, no symbols, integer counts, an unknown measure or unit.

    Source:
        broja: Bertschinger et al. 2014, arXiv 1311.2852; imin: Williams & Beer 2010,
        arXiv 1004.2515; mmi: Barrett 2015, arXiv 1411.2832; ccs: Ince 2017, arXiv 1602.05063.

    Example:
        >>> xor = np.zeros((2, 2, 2))
        >>> xor[0, 0, 0] = xor[0, 1, 1] = xor[1, 0, 1] = xor[1, 1, 0] = 0.25
        >>> result = pid_from_pmf(xor, unit="bits")
        >>> {name: round(value, 6) for name, value in result.atoms.items()}
        {'redundant': 0.0, 'unique_1': 0.0, 'unique_2': 0.0, 'synergistic': 1.0}
        >>> result.converged
        True
    """
    check_unit(unit)
    check_measure(measure)
    pmf = as_pmf(p, axes=AXES, counts=COUNTS)
    if measure == "broja":
        return _broja(pmf[None], None)[0].to_unit(unit)
    return _by_redundancy(pmf, measure).to_unit(unit)


def pid_from_pmf_batch(
    p: ArrayLike, *, measure: str = "broja", unit: str = "nats", device: str | None = None
) -> tuple[PID, ...]:
    """`pid_from_pmf` of many distributions of equal shape; BROJA solves them as a batch.

    Args:
        p: array p[b, x1, x2, y]; each p[i] sums to one.
        measure: as in `pid_from_pmf`.
        unit: "nats" or "bits".
        device: torch device for BROJA, for example "cuda"; None is the CPU.

    Returns:
        A `PID` for each distribution.

    Raises:
        ValueError: as `pid_from_pmf`; the message has the index of the distribution.

    Example:
        >>> p = np.random.default_rng(0).dirichlet(np.ones(27), 5).reshape(5, 3, 3, 3)
        >>> [result.converged for result in pid_from_pmf_batch(p)]
        [True, True, True, True, True]
    """
    check_unit(unit)
    check_measure(measure)
    array = np.asarray(p)
    if array.ndim != 4 or len(array) == 0:
        raise ValueError(
            f"a batch has 4 axes p[b, {AXES}] and at least one distribution, "
            f"got shape {array.shape}"
        )
    pmfs = np.stack(
        [as_pmf(each, axes=AXES, name=f"p[{i}]", counts=COUNTS) for i, each in enumerate(array)]
    )
    if measure == "broja":
        return tuple(result.to_unit(unit) for result in _broja(pmfs, device))
    return tuple(_by_redundancy(pmf, measure).to_unit(unit) for pmf in pmfs)


def check_measure(measure: str) -> None:
    """Raise ValueError for an unknown measure, naming all; dit need not be installed."""
    if measure not in MEASURES and measure not in DIT_MEASURES:
        raise ValueError(
            f"unknown measure '{measure}'; choose from {', '.join(MEASURES)} or, with the package "
            f"dit, {', '.join(DIT_MEASURES)}"
        )


def _broja(pmfs: Floats, device: str | None) -> list[PID]:
    solution = solve_broja(pmfs, device=device)
    results = []
    for i, atoms in enumerate(solution.atoms):
        converged = bool(solution.converged[i])
        gap = float(solution.gap[i])
        reason = "" if converged else f"the certified gap is {gap:.1e} nats, not {TOLERANCE:.0e}"
        results.append(
            PID(
                redundant=atoms[0],
                unique_1=atoms[1],
                unique_2=atoms[2],
                synergistic=atoms[3],
                unit="nats",
                measure="broja",
                lower=float(solution.lower[i]),
                upper=float(solution.upper[i]),
                gap=gap,
                iterations=int(solution.iterations[i]),
                converged=converged,
                reliable=converged,
                reason=reason,
            )
        )
    return results


def _by_redundancy(pmf: Floats, measure: str) -> PID:
    if measure not in _REDUNDANCIES:
        return dit_decomposition(pmf, measure)
    redundant = _REDUNDANCIES[measure](pmf)
    information_1 = information(pmf.sum(1))
    information_2 = information(pmf.sum(0))
    total = information(pmf.reshape(-1, pmf.shape[2]))
    return PID(
        redundant=redundant,
        unique_1=information_1 - redundant,
        unique_2=information_2 - redundant,
        synergistic=total - information_1 - information_2 + redundant,
        unit="nats",
        measure=measure,
    )
