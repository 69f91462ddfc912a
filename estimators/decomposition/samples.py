"""PID of discrete samples: bias correction, confidence intervals, permutation p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from estimators._pmf import check_unit
from estimators._validate import check_fraction
from estimators.decomposition.broja import solve_broja
from estimators.decomposition.exchangeability import exchangeability_p_value
from estimators.decomposition.pmf import pid_from_pmf_batch
from estimators.decomposition.result import ATOMS, PID
from estimators.decomposition.smooth import smooth_model
from estimators.discrete._samples import as_codes
from estimators.discrete.corrections import as_counts, grassberger_terms
from estimators.discrete.samples import coverage_reason

Floats = NDArray[np.float64]

METHODS = ("smooth-bootstrap", "plugin")

# Gap of the many small BROJA problems, in nats, times N: bias and null live on the scale 1/N.
_TOLERANCE = 0.02
# Above this p-value the sources are treated as exchangeable.
_TIE = 0.1
# Share of the bias that is taken to be the error of the correction; from measured coverage.
_BIAS_SHARE = 0.15
# First-order bias of the total, in nats, from which plug-in atoms are called unreliable: .03 bit.
_PLUGIN_BIAS = 0.02


def pid_from_samples(
    x1: ArrayLike,
    x2: ArrayLike,
    y: ArrayLike,
    *,
    measure: str = "broja",
    method: str = "smooth-bootstrap",
    unit: str = "nats",
    level: float = 0.95,
    resamples: int = 80,
    permutations: int = 0,
    seed: int = 0,
) -> PID:
    """Decompose I(X1, X2; Y) from samples of discrete variables.

    The samples are counted in a table n[x1, x2, y] and handed to `pid_from_counts`. Continuous
    variables are binned first, by you and in the open: see `quantize` and `pid_by_bin_count`.

    Args:
        x1: categories of the first source, array of shape (n,), or (n, k) whose rows are the
            symbols. Rows are independent units.
        x2: likewise, the second source.
        y: likewise, the target.
        measure: the definition, as in `pid_from_pmf`.
        method: the estimation, "smooth-bootstrap" or "plugin", see `pid_from_counts`.
        unit: "nats" or "bits".
        level: confidence of the intervals, in (0, 1).
        resamples: number of bootstrap tables, at least 20.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes folds, resamples and permutations.

    Returns:
        PID as from `pid_from_counts`.

    Raises:
        ValueError: an empty, non-categorical or wrongly shaped variable, numbers of rows that
            differ, and as `pid_from_counts`.

    Source:
        See `pid_from_counts`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x1, x2 = rng.integers(0, 2, size=(2, 400))
        >>> result = pid_from_samples(x1, x2, x1 ^ x2, unit="bits")
        >>> bool(0.98 < result.synergistic < 1.02), result.n
        (True, 400)
    """
    codes = as_codes(x1=x1, x2=x2, y=y)
    shape = tuple(codes.max(axis=0) + 1)
    cells = np.ravel_multi_index(tuple(codes.T), shape)
    counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
    return pid_from_counts(
        counts,
        measure=measure,
        method=method,
        unit=unit,
        level=level,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
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
    """Decompose I(X1, X2; Y) from a table of counts n[x1, x2, y].

    "plugin" is `pid_from_pmf` of n/N, whose synergy is far too large in small samples. Default is
    "smooth-bootstrap", with theta(p) = (I(X1; Y), I(X2; Y), I(X1, X2; Y), I_union):

        p~     = (n + a m) / (N + a), m and a by cross-validated likelihood (`smooth_model`);
                 made symmetric in the sources where they look exchangeable, because at a tie
                 (both unique atoms zero) I_union has a kink that no resampling of n/N sees
        bias   = mean_b theta(n_b / N) - theta(p~),  n_b ~ Multinomial(N, p~)
        theta^ = theta(n / N) - bias; for the total, Grassberger's estimate in place of the
                 plug-in, there and in the bias
        interval: atom^ -+ z sqrt(max(sd_delta, sd_boot)^2 + (0.15 bias)^2)

    sd_delta comes from the influence functions, that of I_union from the dual solution:
    L(x1, y) + M(x2, y) - log p(y). Other measures than "broja" have sd_boot only. The null
    permutes the target against both sources and compares plug-in atoms.

    Args:
        counts: whole numbers, array of shape (|X1|, |X2|, |Y|).
        measure: the definition, as in `pid_from_pmf`.
        method: the estimation, "smooth-bootstrap" or "plugin".
        unit: "nats" or "bits".
        level: confidence of the intervals, in (0, 1).
        resamples: number of bootstrap tables, at least 20.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes folds, resamples and permutations.

    Returns:
        PID with n, intervals (none for "plugin") and p_values (of atoms and "total", if asked).
        Atoms are not clipped and may be below zero: `PID.projected` is the nearest valid
        decomposition. For "broja" lower, upper, gap, iterations and converged are those of the
        plug-in table. Diagnostics: plugin_<atom>, coverage (estimated probability of the cells
        seen; below 0.9 the result is unreliable), and for "smooth-bootstrap" model,
        model_weight (a / N), tie_p_value, symmetrised (0 or 1).

    Raises:
        ValueError: counts that are not a table with three axes of whole numbers with a positive
            sum; an unknown measure, method or unit; a level outside (0, 1); fewer than 20
            resamples, negative permutations.

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
    plugin = _Solved.of(table[None] / n, measure)
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
        corrected = _correct(table, plugin, measure, resamples, rng)
        atoms = corrected.atoms
        half = float(ndtri(0.5 + 0.5 * level)) * corrected.error
        ends = np.stack([atoms - half, atoms + half], axis=1) / scale
        fields["intervals"] = {
            name: (float(low), float(high)) for name, (low, high) in zip(ATOMS, ends, strict=True)
        }
        fields["level"] = level
        diagnostics |= corrected.diagnostics
    if permutations:
        fields["p_values"] = _null(table, plugin.atoms[0], measure, permutations, rng)
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


@dataclass(frozen=True)
class _Solved:
    """A batch of decompositions in nats; influence and certificate are those of the first."""

    atoms: Floats  # (b, 4)
    influence: Floats | None  # (4, cells), BROJA only
    certificate: dict[str, float | int | bool]

    @classmethod
    def of(cls, p: Floats, measure: str, tolerance: float | None = None) -> _Solved:
        if measure != "broja":
            results = pid_from_pmf_batch(p, measure=measure)
            return cls(np.array([list(result.atoms.values()) for result in results]), None, {})
        solution = solve_broja(p) if tolerance is None else solve_broja(p, tolerance=tolerance)
        certificate = {
            "lower": float(solution.lower[0]),
            "upper": float(solution.upper[0]),
            "gap": float(solution.gap[0]),
            "iterations": int(solution.iterations[0]),
            "converged": bool(solution.converged[0]),
        }
        influence = _influence(p[0], solution.dual_1[0], solution.dual_2[0])
        return cls(solution.atoms, influence, certificate)


@dataclass(frozen=True)
class _Corrected:
    """Atoms in nats after the correction, and their standard errors."""

    atoms: Floats
    error: Floats
    diagnostics: dict[str, float | int | str]


def _correct(
    table: NDArray[np.int64],
    plugin: _Solved,
    measure: str,
    resamples: int,
    rng: np.random.Generator,
) -> _Corrected:
    n = int(table.sum())
    smooth = smooth_model(table, rng)
    tie = exchangeability_p_value(table)
    p = smooth.p
    if tie > _TIE:
        p = 0.5 * (p + p.transpose(1, 0, 2))
    drawn = rng.multinomial(n, p.ravel(), size=resamples).reshape(resamples, *table.shape)
    solved = _Solved.of(np.concatenate([p[None], drawn / n]), measure, _TOLERANCE / n).atoms
    truth, again = solved[0], solved[1:]
    again = _with_grassberger_total(again, drawn)
    atoms = _with_grassberger_total(plugin.atoms[:1], table[None])[0] - (again.mean(axis=0) - truth)
    spread = again.std(axis=0, ddof=1)
    if plugin.influence is not None:
        weights = table.ravel() / n
        centred = plugin.influence - plugin.influence @ weights[:, None]
        spread = np.maximum(spread, np.sqrt(centred**2 @ weights / n))
    moved = plugin.atoms[0] - atoms
    error = np.sqrt(spread**2 + (_BIAS_SHARE * moved) ** 2)
    return _Corrected(
        atoms,
        error + _TOLERANCE / n,  # never surer than the solver
        {
            "model": smooth.model,
            "model_weight": smooth.weight / n,
            "tie_p_value": tie,
            "symmetrised": int(tie > _TIE),
        },
    )


def _with_grassberger_total(atoms: Floats, tables: NDArray[np.int64]) -> Floats:
    """The same atoms, synergy moved to where the total is Grassberger's; nats, shape (b, 4).

    Only synergy contains the total; each of its three entropies is corrected.
    """
    size = tables[0].sum()

    def entropy(counts: NDArray[np.int64]) -> Floats:
        terms = grassberger_terms(counts).reshape(len(tables), -1)
        result: Floats = np.log(size) - terms.sum(axis=1) / size
        return result

    total = entropy(tables.sum(axis=3)) + entropy(tables.sum(axis=(1, 2))) - entropy(tables)
    return np.column_stack([atoms[:, :3], total - atoms[:, :3].sum(axis=1)])


def _influence(p: Floats, dual_1: Floats, dual_2: Floats) -> Floats:
    """Influence of a cell on the four atoms, in nats, shape (4, cells); 0 where p is 0."""

    def log(q: Floats) -> Floats:
        result: Floats = np.log(np.where(q > 0.0, q, 1.0))
        return result

    target = log(p.sum(axis=(0, 1), keepdims=True))
    first = log(p.sum(axis=1, keepdims=True)) - log(p.sum(axis=(1, 2), keepdims=True)) - target
    second = log(p.sum(axis=0, keepdims=True)) - log(p.sum(axis=(0, 2), keepdims=True)) - target
    both = log(p) - log(p.sum(axis=2, keepdims=True)) - target
    union = dual_1[:, None, :] + dual_2[None, :, :] - target
    atoms = (first + second - union, union - second, union - first, both - union)
    return np.stack([np.where(p > 0.0, psi, 0.0).ravel() for psi in atoms])


def _plugin_reason(table: NDArray[np.int64]) -> str:
    """Miller's first-order bias of the total, where it is too large to ignore."""
    k = [int((table.sum(axis=axes) > 0).sum()) for axes in ((), (2,), (0, 1))]
    bias = (k[0] - k[1] - k[2] + 1) / (2.0 * float(table.sum()))
    if bias <= _PLUGIN_BIAS:
        return ""
    return (
        f"plug-in atoms are biased: the total alone by about {bias:.2g} nats; "
        "use method='smooth-bootstrap'"
    )


def _null(
    table: NDArray[np.int64],
    observed: Floats,
    measure: str,
    permutations: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """p-values of plug-in atoms and total when the target is permuted against both sources."""
    from scipy.stats import random_table  # half a second to import

    sources, target = table.sum(axis=2).ravel(), table.sum(axis=(0, 1))
    seen, answers = sources > 0, target > 0
    drawn = np.zeros((permutations, sources.size, target.size))
    rows = random_table(sources[seen], target[answers]).rvs(permutations, random_state=rng)
    drawn[np.ix_(range(permutations), seen, answers)] = rows.reshape(permutations, seen.sum(), -1)
    tolerance = _TOLERANCE / float(table.sum())
    p = drawn.reshape(permutations, *table.shape) / table.sum()
    null = _Solved.of(p, measure, tolerance).atoms
    null = np.column_stack([null, null.sum(axis=1)])
    found = np.append(observed, observed.sum())
    slack = np.array([tolerance] * 4 + [1e-12])  # the total needs no solver
    above = 1 + (null >= found - slack).sum(axis=0)
    return dict(zip((*ATOMS, "total"), (above / (1.0 + permutations)).tolist(), strict=True))
