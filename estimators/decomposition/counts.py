"""PID of a table of counts: bias correction, confidence intervals, permutation p-values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from estimators._pmf import check_unit
from estimators._validate import check_fraction
from estimators.decomposition._permutation import permutation_p_values
from estimators.decomposition._smooth_bootstrap import correct_bias
from estimators.decomposition._solved import Solved
from estimators.decomposition.result import ATOMS, PID
from estimators.discrete._estimate import coverage_reason
from estimators.discrete.corrections import as_counts

METHODS = ("smooth-bootstrap", "plugin")

# First-order bias of the total, in nats, above which plug-in atoms are unreliable: .03 bit.
_PLUGIN_BIAS = 0.02


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
        interval: atom^ -+ z sqrt(max(sd_delta, sd_boot)^2 + (0.15 bias)^2)

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
        "total". Atoms are not clipped and may be below zero: `PID.projected` is the nearest valid
        decomposition. For "broja", lower, upper, gap, iterations and converged are those of the
        plug-in table. Diagnostics: plugin_<atom>, coverage (estimated probability of the observed
        cells; below 0.9 the result is unreliable), and for "smooth-bootstrap" model,
        model_weight (a / N), tie_p_value, symmetrised (0 or 1).

    Raises:
        ValueError: counts that are not whole numbers on three axes with a positive sum; an
            unknown measure, method or unit; a level outside (0, 1); fewer than 20 resamples;
            negative permutations.

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
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    if resamples < 20:
        raise ValueError(f"resamples must be at least 20, got {resamples}")
    if permutations < 0:
        raise ValueError(f"permutations must be at least 0, got {permutations}")
    rng = np.random.default_rng(seed)
    n = int(table.sum())
    plugin = Solved.of(table[None] / n, measure)
    fields: dict[str, Any] = dict(plugin.certificate)
    diagnostics: dict[str, float | int | str] = {
        f"plugin_{name}": value / scale for name, value in zip(ATOMS, plugin.atoms[0], strict=True)
    }
    coverage = 1.0 - float((table == 1).sum()) / n
    diagnostics["coverage"] = coverage
    reason = coverage_reason(coverage)
    if not fields.get("converged", True):
        reason = f"the solver left a gap of {fields['gap']:.1e} nats at the plug-in"
    if method == "plugin":
        atoms = plugin.atoms[0]
        reason = reason or _plugin_reason(table)
    else:
        corrected = correct_bias(table, plugin, measure, resamples, rng)
        atoms = corrected.atoms
        half = float(ndtri(0.5 + 0.5 * level)) * corrected.error
        ends = np.stack([atoms - half, atoms + half], axis=1) / scale
        fields["intervals"] = {
            name: (float(low), float(high)) for name, (low, high) in zip(ATOMS, ends, strict=True)
        }
        fields["level"] = level
        diagnostics |= corrected.diagnostics
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
        reliable=not reason,
        reason=reason,
        diagnostics=diagnostics,
        **fields,
    )


def _plugin_reason(table: NDArray[np.int64]) -> str:
    """Message about Miller's first-order bias of the total, if it is large; may be empty."""
    k = [int((table.sum(axis=axes) > 0).sum()) for axes in ((), (2,), (0, 1))]
    bias = (k[0] - k[1] - k[2] + 1) / (2.0 * float(table.sum()))
    if bias <= _PLUGIN_BIAS:
        return ""
    return (
        f"plug-in atoms are biased: the total alone by about {bias:.2g} nats; "
        "use method='smooth-bootstrap'"
    )
