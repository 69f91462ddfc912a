"""`pid`: partial information decomposition from samples, discrete or continuous."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimators._arrays import to_numpy
from estimators.decomposition.counts import METHODS as CATEGORICAL
from estimators.decomposition.gaussian_samples import fit_gaussian_pid
from estimators.decomposition.learned import fit_learned_pid
from estimators.decomposition.result import PID
from estimators.decomposition.samples import pid_from_samples

METHODS = ("auto", *CATEGORICAL, "gaussian", "learned")


def pid(x1: Any, x2: Any, y: Any, *, method: str = "auto", **options: Any) -> PID:
    """Partial information decomposition of I(X1, X2; Y) from samples, discrete or continuous.

        sources       target     auto                 function of `decomposition`
        categories    categories "smooth-bootstrap"   `pid_from_samples`
        rows (n, d)   labels     "learned"            `learned.fit_learned_pid`
        rows (n, d)   rows       "gaussian"           `gaussian_samples.fit_gaussian_pid`

    Args:
        x1: categories (n,) or (n, k) of whole numbers or strings, or rows (n, d) of fractions.
        x2: second source, likewise.
        y: target, likewise; labels are (n,) whole numbers, booleans or strings.
        method: "auto", "smooth-bootstrap", "plugin", "gaussian" or "learned".
        **options: options of the function; all have `unit`, `level` and `seed`.

    Returns:
        PID; its `method` names the estimator.

    Raises:
        ValueError: an unknown method, and as the function.
        TypeError: an unknown option.

    Source:
        See the functions.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x1, x2 = rng.integers(0, 2, size=(2, 400))
        >>> result = pid(x1, x2, x1 ^ x2, unit="bits")
        >>> bool(0.98 < result.synergistic < 1.02), result.n
        (True, 400)
    """
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    chosen = _chosen(x1, x2, y) if method == "auto" else method
    if chosen == "gaussian":
        return fit_gaussian_pid(x1, x2, y, **options)
    if chosen == "learned":
        return fit_learned_pid(x1, x2, y, **options)
    return pid_from_samples(x1, x2, y, method=chosen, **options)


def _chosen(x1: Any, x2: Any, y: Any) -> str:
    """Method for the kinds of data; a source of fractional rows is continuous."""
    continuous = [_is_rows(side, name) for side, name in ((x1, "x1"), (x2, "x2"))]
    if not any(continuous):
        return "smooth-bootstrap"
    return "gaussian" if _is_rows(y, "y") else "learned"


def _is_rows(values: Any, name: str) -> bool:
    array = to_numpy(values, name)
    return array.ndim == 2 and array.dtype.kind == "f" and bool((array != np.rint(array)).any())
