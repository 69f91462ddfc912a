"""PID of jointly Gaussian vectors: exact from a covariance, estimated from rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from estimators._arrays import Rows, as_rows, paired, same_device
from estimators._pmf import check_unit
from estimators._reliability import verdict
from estimators.clustered import Labels
from estimators.decomposition.gaussian_union import channel, union_information
from estimators.decomposition.result import ATOMS, PID
from estimators.information._canonical import canonical
from estimators.information._checks import gaussian_checks
from estimators.information._request import Request
from estimators.information.gaussian import unbiased

Floats = NDArray[np.float64]

#: Total bias above this, in nats, may not be corrected well enough by the bootstrap.
_WORST_BIAS = 0.5
#: Certified gap, in nats, that counts as converged; the true error is far smaller.
_CONVERGED = 1e-3
#: Squared canonical correlation above which y is determined by the sources.
_DETERMINED = 1.0 - 1e-10


def pid_from_covariance(cov: ArrayLike, dims: tuple[int, int, int], *, unit: str = "nats") -> PID:
    """BROJA PID of jointly Gaussian vectors of any dimensions, from their covariance.

    `I_union = min over covariances with the same (X1, Y) and (X2, Y) blocks of I(X1, X2; Y)`; a
    joint Gaussian attains the BROJA optimum. A scalar target has `I_union = max(I1, I2)`.

    Args:
        cov: (d, d) positive definite covariance of (X1, X2, Y), d the sum of `dims`.
        dims: dimensions of X1, X2 and Y.
        unit: "nats" or "bits".

    Returns:
        PID with a certified gap: the union information lies in `[lower, upper]`.

    Raises:
        ValueError: wrong shape, numbers that are not finite, a matrix that is not symmetric or
            not positive definite, an unknown unit.

    Source:
        Venkatesh et al. 2023, arXiv 2307.10515; arXiv 2510.04417 (a Gaussian is optimal);
        Barrett 2015, arXiv 1411.2832 (scalar target).

    Example:
        >>> cov = np.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])  # Y plus noise each
        >>> result = pid_from_covariance(cov, (1, 1, 1), unit="bits")
        >>> round(result.redundant, 6), round(result.unique_1, 6) == 0.0
        (0.5, True)
    """
    check_unit(unit)
    matrix = _checked(cov, dims)
    first, second, target = _slices(dims)
    i1, i2 = _information(matrix, first, target), _information(matrix, second, target)
    total = _information(matrix, slice(0, second.stop), target)
    union = union_information(channel(matrix, first, target), channel(matrix, second, target))
    # I1 and I2 bound the union information from below, the total bounds it from above.
    upper = min(max(union.value, i1, i2), total)
    lower = max(min(union.lower, upper), i1, i2) if upper > max(i1, i2) else upper
    redundant, unique_1, unique_2, synergistic = _atoms(i1, i2, total, upper)
    result = PID(
        redundant=redundant,
        unique_1=unique_1,
        unique_2=unique_2,
        synergistic=synergistic,
        unit="nats",
        measure="broja",
        method="gaussian, exact",
        lower=lower,
        upper=upper,
        gap=upper - lower,
        iterations=union.iterations,
        converged=upper - lower <= _CONVERGED,
        diagnostics={"d_1": dims[0], "d_2": dims[1], "d_y": dims[2]},
    )
    return result.to_unit(unit)


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
    effective number of rows as degrees of freedom. Intervals are normal, with bootstrap standard
    errors of the atoms.

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
        PID; atoms are not clipped, see `PID.projected`. Reliable if every interval is narrow, the
        rows look Gaussian, and the bias is small.

    Raises:
        ValueError: invalid arrays, n - 1 < d_1 + d_2 + d_y, or a target that the sources determine.

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
    ask = Request.of(n, level=level, clusters=clusters, permutations=0, seed=seed)
    pair = canonical(np.concatenate([a, b], axis=1), c, ask.codes)
    if pair.squared[0] > _DETERMINED:
        raise ValueError(
            "a combination of y is a linear function of x1 and x2: the information is infinite"
        )
    dims = (a.shape[1], b.shape[1], c.shape[1])
    cov = _scaled_covariance(a, b, c)
    v = pair.freedom
    plug_in = _quantities(cov, dims)
    rng = np.random.default_rng(seed)
    drawn = np.array([_quantities(_wishart(cov, v, rng), dims) for _ in range(resamples)])
    bias = drawn.mean(axis=0) - plug_in
    exact = np.array(
        [unbiased(canonical(side, c, ask.codes))[0] for side in (a, b)] + [unbiased(pair)[0]]
    )
    values = np.append(exact, plug_in[3] - bias[3])
    atoms = _atoms(*values.tolist())
    spread = np.array([_atoms(*row) for row in drawn.tolist()]).std(axis=0, ddof=1)
    half = float(ndtri(0.5 + 0.5 * level)) * np.hypot(spread, 0.15 * abs(float(bias[3])))
    intervals = {
        name: (atom - h, atom + h)
        for name, atom, h in zip(ATOMS, atoms, half.tolist(), strict=True)
    }
    doubts = list(gaussian_checks(pair))
    if bias[3] > _WORST_BIAS:
        doubts.append(f"the plug-in union information is biased by {bias[3]:.2g} nats")
    widest = max(intervals, key=lambda name: intervals[name][1] - intervals[name][0])
    reliable, reason = verdict(float(exact[2]), intervals[widest], doubts)
    redundant, unique_1, unique_2, synergistic = atoms
    return PID(
        redundant=redundant,
        unique_1=unique_1,
        unique_2=unique_2,
        synergistic=synergistic,
        unit="nats",
        measure="broja",
        method="gaussian, bias-corrected",
        n=ask.cluster_count(n),
        intervals=intervals,
        level=level,
        reliable=reliable,
        reason=reason,
        diagnostics={"bias_of_union": float(bias[3]), "resamples": resamples},
    ).to_unit(unit)


def _scaled_covariance(*parts: Rows) -> Floats:
    """Covariance of all columns, each scaled to variance 1."""
    joint = np.concatenate(parts, axis=1)
    return np.asarray(np.corrcoef(joint, rowvar=False))


def _quantities(cov: Floats, dims: tuple[int, int, int]) -> Floats:
    """(4,) I(X1;Y), I(X2;Y), I(X1,X2;Y) and the union information, in nats."""
    first, second, target = _slices(dims)
    i1, i2 = _information(cov, first, target), _information(cov, second, target)
    total = _information(cov, slice(0, second.stop), target)
    union = union_information(channel(cov, first, target), channel(cov, second, target)).value
    return np.array([i1, i2, total, min(max(union, i1, i2), total)])


def _wishart(cov: Floats, v: float, rng: np.random.Generator) -> Floats:
    """Wishart draw around `cov` with v degrees of freedom (Bartlett's decomposition)."""
    d = len(cov)
    lower = np.tril(rng.normal(size=(d, d)), -1)
    lower[np.diag_indices(d)] = np.sqrt(rng.chisquare(v - np.arange(d)))
    root = np.linalg.cholesky(cov) @ lower
    return np.asarray(root @ root.T / v)


def _atoms(i1: float, i2: float, total: float, union: float) -> tuple[float, float, float, float]:
    """Redundant, unique 1, unique 2 and synergistic information."""
    return i1 + i2 - union, union - i2, union - i1, total - union


def _slices(dims: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    a, b, c = np.cumsum(dims).tolist()
    return slice(0, a), slice(a, b), slice(b, c)


def _information(cov: Floats, source: slice, target: slice) -> float:
    """`1/2 ln det(I + H H')` of the channel from target to source."""
    h = channel(cov, source, target)
    return 0.5 * float(np.log1p((h**2).sum(axis=1)).sum())


def _checked(cov: ArrayLike, dims: tuple[int, int, int]) -> Floats:
    matrix = np.asarray(cov, dtype=np.float64)
    if min(dims) < 1:
        raise ValueError(f"dims are the three dimensions of X1, X2 and Y, got {dims}")
    d = sum(dims)
    if matrix.shape != (d, d):
        raise ValueError(f"dims {dims} need a covariance of shape {(d, d)}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        where = tuple(np.argwhere(~np.isfinite(matrix))[0].tolist())
        raise ValueError(f"cov{list(where)} is {matrix[where]}; all entries must be finite")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * float(np.abs(matrix).max())):
        raise ValueError("cov is not symmetric")
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            "cov is not positive definite: some column is a linear combination of others"
        ) from None
    scale = 1.0 / np.sqrt(np.diagonal(matrix))
    return np.asarray(matrix * scale[:, None] * scale[None, :])
