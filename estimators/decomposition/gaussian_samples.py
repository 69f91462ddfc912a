"""PID of jointly Gaussian vectors, estimated from rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from estimators._arrays import Rows, as_rows, paired, same_device
from estimators._pmf import check_unit
from estimators.clustered import Labels
from estimators.decomposition._atom_intervals import atom_interval, atoms_verdict
from estimators.decomposition._gaussian_noise import noise_doubts
from estimators.decomposition.gaussian import atoms_of, quantities
from estimators.decomposition.result import ATOMS, PID
from estimators.information._canonical import canonical, whiten, wilks_moments
from estimators.information._checks import gaussian_checks
from estimators.information._request import Request
from estimators.information.gaussian import unbiased

Floats = NDArray[np.float64]

#: Total bias above this, in nats, may not be corrected well enough by the bootstrap.
_WORST_BIAS = 0.5
#: Squared canonical correlation above which y is determined by the sources.
_DETERMINED = 1.0 - 1e-10
#: Noise variance of the second bootstrap, as a multiple of the sample's.
_NOISIER = 3.0
#: Relative decrease of the information at which the solver stops for a bootstrap draw.
_DRAW_CHANGE = 1e-8


def fit_gaussian_pid(
    x1: Any,
    x2: Any,
    y: Any,
    *,
    unit: str = "nats",
    level: float = 0.95,
    clusters: Labels | None = None,
    resamples: int = 40,
    seed: int = 0,
) -> PID:
    """BROJA PID of jointly Gaussian vectors from samples, bias-corrected, with intervals.

    The three informations are the unbiased estimates of `mutual_information(method="gaussian")`.
    The union information of the sample covariance is corrected by a parametric bootstrap bias,
    `mean_b union(cov_b) - union(cov)` with `cov_b` Wishart around the sample covariance, with the
    effective number of rows as degrees of freedom; the informations, whose bias is known, are
    control variates. Intervals use bootstrap standard errors of the atoms and Student's
    quantiles. On the side to which a kink of the union would move an atom they are wider by the
    further bias that a bootstrap with three times the noise finds. They are cut at zero, and
    start at zero unless the atom is well above it.

    Args:
        x1: (n, d_1) array or tensor.
        x2: (n, d_2) array or tensor.
        y: (n, d_y) array or tensor.
        unit: "nats" or "bits".
        level: confidence of the intervals.
        clusters: (n,) labels of the independent clusters.
        resamples: number of bootstrap covariances, at least 10.
        seed: seed of the bootstrap.

    Returns:
        PID; atoms are not clipped (see `PID.projected`) and may be below their intervals, which
        are. Reliable if the interval of every atom is narrow, the rows look Gaussian, and the bias
        is small.

    Raises:
        ValueError: invalid arrays, n - 1 < d_1 + d_2 + d_y, columns that are linear combinations of
            others (also across the sources), or a target that the sources determine.

    Source:
        As `pid_from_covariance`; bias of its plug-in: Venkatesh et al. 2023, section 4.

    Example:
        >>> y, e1, e2 = np.random.default_rng(0).normal(size=(3, 4000, 2))
        >>> result = fit_gaussian_pid(y + e1, y + e2, y, unit="bits")  # truth: 1 bit redundant
        >>> low, high = result.intervals["redundant"]
        >>> low < 1 < high
        True
    """
    if resamples < 10:
        raise ValueError(f"resamples must be at least 10, got {resamples}")
    check_unit(unit)
    same_device(x1=x1, x2=x2, y=y)
    a, b, c = as_rows(x1, "x1"), as_rows(x2, "x2"), as_rows(y, "y")
    n = paired(x1=a, x2=b, y=c)
    a, b, c = _scaled(a, "x1"), _scaled(b, "x2"), _scaled(c, "y")
    ask = Request.of(n, level=level, clusters=clusters, permutations=0, seed=seed)
    joint = np.concatenate([a, b], axis=1)
    if n > sum(rows.shape[1] for rows in (a, b, c)):
        for rows, name in ((a, "x1"), (b, "x2"), (c, "y"), (joint, "(x1, x2)")):
            whiten(rows, name)
    pair = canonical(joint, c, ask.codes)
    if pair.squared[0] > _DETERMINED:
        raise ValueError(
            "a combination of y is a linear function of x1 and x2: the information is infinite"
        )
    try:
        fit = _fit(a, b, c, ask, unbiased(pair)[0], pair.freedom, resamples)
    except np.linalg.LinAlgError:
        raise ValueError(
            "columns of x1, x2 and y are nearly linear combinations of each other: their "
            "covariance is singular to rounding; drop columns, or reduce the dimension"
        ) from None
    tail = float(stdtrit(resamples - 1, 0.5 + 0.5 * level))
    # A floor of the standard error: that of an information of zero, one degree of freedom.
    half = tail * np.maximum(fit.error, np.sqrt(0.5) / pair.freedom)
    atoms = dict(zip(ATOMS, atoms_of(*fit.values.tolist()), strict=True))
    # A union that is too large makes both uniques too large, redundancy and synergy too small.
    more = dict(zip(ATOMS, (fit.kink, 0.0, 0.0, fit.kink), strict=True))
    intervals = {
        name: atom_interval(atom, h + fit.kink - more[name], h + more[name])
        for (name, atom), h in zip(atoms.items(), half.tolist(), strict=True)
    }
    doubts = [*gaussian_checks(pair), *noise_doubts(pair.x, pair.y, pair.freedom)]
    if fit.bias > _WORST_BIAS:
        doubts.append(f"the plug-in union information is biased by {fit.bias:.2g} nats")
    reliable, reason = atoms_verdict(atoms, intervals, doubts)
    return PID(
        redundant=atoms["redundant"],
        unique_1=atoms["unique_1"],
        unique_2=atoms["unique_2"],
        synergistic=atoms["synergistic"],
        unit="nats",
        measure="broja",
        method="gaussian, bias-corrected",
        n=ask.cluster_count(n),
        intervals=intervals,
        level=level,
        reliable=reliable,
        reason=reason,
        diagnostics={
            "bias_of_union": fit.bias,
            "kink_of_union": fit.kink,
            "resamples": resamples,
        },
    ).to_unit(unit)


@dataclass(frozen=True)
class _Fit:
    """Corrected informations and union in nats, standard errors of the atoms, biases."""

    values: Floats  # (4,) as `quantities`
    error: Floats  # (4,)
    bias: float  # of the plug-in union
    kink: float  # further bias that the first bootstrap may have missed


def _fit(a: Rows, b: Rows, c: Rows, ask: Request, total: float, v: float, resamples: int) -> _Fit:
    """Corrected quantities; the union by bootstraps at the sample's noise and at three times it.

    Where the union has a kink (an atom is zero) a bootstrap around the sample misses part of its
    bias: for the modulus of a normal variable of mean 0 it finds sqrt(2) - 1 of it on average, and
    all of it with three times the variance.
    """
    dims = (a.shape[1], b.shape[1], c.shape[1])
    cov = _scaled_covariance(a, b, c)
    plug_in = quantities(cov, dims)
    rng = np.random.default_rng(ask.seed)
    drawn = np.array([_draw(cov, v, dims, rng) for _ in range(resamples)])
    low = max(v / _NOISIER, sum(dims) + 1.0)
    noisier = np.array([_draw(cov, low, dims, rng) for _ in range(resamples // 2)])
    bias = _union_bias(drawn - plug_in, dims, v)
    kink = max(_union_bias(noisier - plug_in, dims, low) - bias, 0.0)
    exact = [unbiased(canonical(side, c, ask.codes))[0] for side in (a, b)]
    values = np.array([*exact, total, plug_in[3] - bias])
    error = np.array([atoms_of(*row) for row in drawn.tolist()]).std(axis=0, ddof=1)
    return _Fit(values, error, bias, kink)


def _draw(cov: Floats, v: float, dims: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    return quantities(_wishart(cov, v, rng), dims, change=_DRAW_CHANGE)


def _union_bias(change: Floats, dims: tuple[int, int, int], v: float) -> float:
    """Mean change of the union, with the informations, whose bias is known, as control variates.

    Without them the bias has an error of `sd / sqrt(resamples)`, which is all the error of an atom
    that is zero in every sample.
    """
    d_1, d_2, d_y = dims
    known = np.array([wilks_moments(d, d_y, v)[0] for d in (d_1, d_2, d_1 + d_2)])
    means = change.mean(axis=0)
    centred = change - means
    slope = np.linalg.lstsq(centred[:, :3], centred[:, 3], rcond=1e-8)[0]
    return float(means[3] - slope @ (means[:3] - known))


def _scaled(rows: Rows, name: str) -> Rows:
    """Rows with every column centred and divided by its largest value, against overflow.

    Raises:
        ValueError: a column is constant to rounding.
    """
    small = rows / np.maximum(np.abs(rows).max(axis=0), np.finfo(np.float64).tiny)
    centred = small - small.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    still = np.flatnonzero(largest < 1e-12)
    if still.size:
        raise ValueError(
            f"column {still[0]} of {name} is constant to rounding ({rows[0, still[0]]:g}): it "
            "carries no information; drop it, or subtract its mean before rounding"
        )
    return np.asarray(centred / largest)


def _scaled_covariance(*parts: Rows) -> Floats:
    """Covariance of all columns, each scaled to variance 1."""
    joint = np.concatenate(parts, axis=1)
    return np.asarray(np.corrcoef(joint, rowvar=False))


def _wishart(cov: Floats, v: float, rng: np.random.Generator) -> Floats:
    """Wishart draw around `cov` with v degrees of freedom (Bartlett's decomposition)."""
    d = len(cov)
    lower = np.tril(rng.normal(size=(d, d)), -1)
    lower[np.diag_indices(d)] = np.sqrt(rng.chisquare(v - np.arange(d)))
    root = np.linalg.cholesky(cov) @ lower
    return np.asarray(root @ root.T / v)
