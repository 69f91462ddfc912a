"""PID of a table of counts: bias correction, confidence intervals, permutation p-values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, ndtri

from estimators._pmf import check_unit
from estimators._validate import check_fraction
from estimators.decomposition._atom_intervals import atom_interval, atoms_verdict
from estimators.decomposition._permutation import permutation_p_values
from estimators.decomposition._smooth_bootstrap import correct_bias
from estimators.decomposition._solved import Solved
from estimators.decomposition._table_size import check_drawn, check_samples
from estimators.decomposition.pmf import check_measure
from estimators.decomposition.result import ATOMS, PID
from estimators.discrete._estimate import coverage_reason
from estimators.discrete.corrections import as_counts

METHODS = ("smooth-bootstrap", "plugin")

#: Measures whose atoms are never negative.
NONNEGATIVE = ("broja", "imin", "mmi")
#: Fewest draws of a reliable decomposition.
_FEWEST = 30
_PLUGIN = (
    "plug-in atoms have no interval, and are biased upwards where the truth is zero; "
    "use method='smooth-bootstrap'"
)


def pid_from_counts(
    counts: ArrayLike,
    *,
    measure: str = "broja",
    method: str = "smooth-bootstrap",
    unit: str = "nats",
    level: float = 0.95,
    resamples: int = 80,
    permutations: int = 0,
    seed: int = 0,
) -> PID:
    """Partial information decomposition of I(X1, X2; Y) from a table of counts n[x1, x2, y].

    "plugin" is `pid_from_pmf` of n/N, whose synergy is far too large in small samples. The
    default is "smooth-bootstrap", with theta(p) = (I(X1; Y), I(X2; Y), I(X1, X2; Y), I_union):

        p~     = (n + a m) / (N + a), m and a by cross-validated likelihood (`smooth_model`);
                 symmetrised if the sources look exchangeable, because I_union has a kink where both
                 unique atoms are zero, which resampling n/N does not reproduce
        bias   = mean_b theta(n_b / N) - theta(p~),  n_b ~ Multinomial(N, p~)
        theta^ = theta(n / N) - bias; the total uses Grassberger's estimate instead of the
                 plug-in, also in the bias
        interval: atom^ -+ 1.07 z sqrt(max(sd_delta, sd_boot)^2 + (0.15 bias)^2), cut to what the
                 alphabets allow; it starts at zero unless the atom is well above it, and its
                 upper part allows for an unseen symbol of probability 1/N

    sd_delta comes from influence functions; that of I_union is L(x1, y) + M(x2, y) - log p(y)
    from the dual solution. Measures other than "broja" use sd_boot only. Permutation p-values
    permute the target against both sources and compare plug-in atoms.

    Args:
        counts: whole numbers, array of shape (|X1|, |X2|, |Y|).
        measure: definition of redundancy, as in `pid_from_pmf`.
        method: estimator, "smooth-bootstrap" or "plugin".
        unit: "nats" or "bits".
        level: confidence of the intervals, in (0, 1).
        resamples: number of bootstrap tables, at least 20.
        permutations: number of random permutations for p-values; 0 for none.
        seed: seed of folds, resamples and permutations.

    Returns:
        PID with n, intervals (none for "plugin") and, with permutations, p_values of atoms and
        "total". Atoms are not clipped and may be below zero and their intervals: `PID.projected` is
        the nearest valid decomposition. It is reliable if the interval of every atom is narrow,
        N is at least 30, and the coverage at least 0.9; "plugin" never is, as it has no
        interval. For "broja", lower, upper, gap, iterations and converged are those of the
        plug-in table. Diagnostics: plugin_<atom>, coverage (estimated probability of the observed
        cells; below 0.9 the result is unreliable), and for "smooth-bootstrap" model,
        model_weight (a / N), tie_p_value, symmetrised (0 or 1).

    Raises:
        ValueError: counts that are not whole numbers on three axes with a positive sum; an
            unknown measure, method or unit; a level outside (0, 1); fewer than 20 resamples;
            negative permutations; more than 32,768 cells, or too many tables of them.

    Source:
        BROJA: Bertschinger et al. 2014, arXiv 1311.2862. Bias by a smooth bootstrap: Efron &
        Tibshirani 1993, chapter 10. Grassberger 2003, arXiv physics/0307138. Exchangeability:
        Stuart 1955, Maxwell 1970.

    Example:
        >>> copy = [[[100, 0], [0, 0]], [[0, 0], [0, 100]]]
        >>> result = pid_from_counts(copy, unit="bits", method="plugin")
        >>> round(result.redundant, 6)
        1.0
    """
    table = as_counts(counts, axes="x1, x2, y")
    scale = check_unit(unit)
    check_fraction(level, "level")
    check_measure(measure)
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    if resamples < 20:
        raise ValueError(f"resamples must be at least 20, got {resamples}")
    if permutations < 0:
        raise ValueError(f"permutations must be at least 0, got {permutations}")
    rng = np.random.default_rng(seed)
    n = int(table.sum())
    if method != "plugin":
        check_samples(table.shape, n)
        check_drawn(table.size, resamples=resamples)
    check_drawn(table.size, permutations=permutations)
    plugin = Solved.of(table[None] / n, measure)
    fields: dict[str, Any] = dict(plugin.certificate)
    diagnostics: dict[str, float | int | str] = {
        f"plugin_{name}": value / scale for name, value in zip(ATOMS, plugin.atoms[0], strict=True)
    }
    coverage = 1.0 - float((table == 1).sum()) / n
    diagnostics["coverage"] = coverage
    doubts = [coverage_reason(coverage)]
    if n < _FEWEST:
        doubts.append(f"{n} draws are too few; at least {_FEWEST} are needed")
    if not fields.get("converged", True):
        doubts.append(f"the solver left a gap of {fields['gap']:.1e} nats at the plug-in")
    if method == "plugin":
        atoms = plugin.atoms[0]
        doubts.append(_PLUGIN)
        intervals: dict[str, tuple[float, float]] = {}
    else:
        corrected = correct_bias(table, plugin, measure, resamples, rng)
        atoms = corrected.atoms
        half = float(ndtri(0.5 + 0.5 * level)) * corrected.error
        intervals = _intervals(atoms, half, table, measure)
        diagnostics |= corrected.diagnostics
        fields["level"] = level
        fields["intervals"] = {
            name: (low / scale, high / scale) for name, (low, high) in intervals.items()
        }
    reliable, reason = atoms_verdict(dict(zip(ATOMS, atoms, strict=True)), intervals, doubts)
    if permutations:
        fields["p_values"] = permutation_p_values(
            table, plugin.atoms[0], measure, permutations, rng
        )
    for name in ("lower", "upper", "gap"):
        if name in fields:
            fields[name] /= scale
    fields |= {name: float(value) / scale for name, value in zip(ATOMS, atoms, strict=True)}
    return PID(
        unit=unit,
        measure=measure,
        method=method,
        n=n,
        reliable=reliable,
        reason=reason,
        diagnostics=diagnostics,
        **fields,
    )


def _intervals(
    atoms: NDArray[np.float64], half: NDArray[np.float64], table: NDArray[np.int64], measure: str
) -> dict[str, tuple[float, float]]:
    """Intervals in nats, within what the alphabets allow if the measure is not negative.

    A symbol that n draws did not show may have probability 1/n, and carry the information
    -1/n log 1/n; the upper half width allows for it.
    """
    n = float(table.sum())
    unseen = float(entr(1.0 / n) + entr(1.0 - 1.0 / n))
    above = np.hypot(half, unseen)
    if measure not in NONNEGATIVE:
        return {
            name: (atom - below, atom + up)
            for name, atom, below, up in zip(ATOMS, atoms, half, above, strict=True)
        }
    # Every atom is at most H(Y), a unique atom at most H of its source, redundancy and synergy at
    # most H of either source; H is at most the log of the number of symbols.
    x1, x2, y = (float(np.log(size)) for size in table.shape)
    most = (min(x1, x2, y), min(x1, y), min(x2, y), min(x1, x2, y))
    return {
        name: atom_interval(float(atom), float(below), float(up), limit)
        for name, atom, below, up, limit in zip(ATOMS, atoms, half, above, most, strict=True)
    }
