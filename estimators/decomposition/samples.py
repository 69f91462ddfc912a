"""PID of samples of discrete variables."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from estimators.decomposition._table_size import check_samples
from estimators.decomposition.counts import pid_from_counts
from estimators.decomposition.result import PID
from estimators.discrete._samples import as_codes


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
    """Partial information decomposition of I(X1, X2; Y) from samples of discrete variables.

    The samples are counted in a table n[x1, x2, y] for `pid_from_counts`. Continuous variables
    must be binned first: see `quantize` and `decomposition.by_bins.pid_by_bin_count`.

    Args:
        x1: categories of the first source, array of shape (n,), or (n, k) whose rows are the
            symbols. Rows are independent.
        x2: second source, likewise.
        y: target, likewise.
        measure: definition of redundancy, as in `pid_from_pmf`.
        method: estimator, "smooth-bootstrap" or "plugin", see `pid_from_counts`.
        unit: "nats" or "bits".
        level: confidence of the intervals, in (0, 1).
        resamples: number of bootstrap tables, at least 20.
        permutations: number of random permutations for p-values; 0 for none.
        seed: seed of folds, resamples and permutations.

    Returns:
        PID as from `pid_from_counts`.

    Raises:
        ValueError: an empty, non-categorical or wrongly shaped variable, numbers of rows that
            differ, so many symbols that their table exceeds 32,768 cells, and as `pid_from_counts`.

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
    shape = tuple(int(size) for size in codes.max(axis=0) + 1)
    check_samples(shape, len(codes))
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
