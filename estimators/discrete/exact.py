"""Exact information measures of a known pmf with one axis per variable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._pmf import as_pmf, check_unit
from estimators.discrete._terms import (
    Axes,
    Terms,
    co_information_terms,
    conditional_mutual_information_terms,
    dual_total_correlation_terms,
    exact_value,
    total_correlation_terms,
)


def entropy_pmf(
    p: ArrayLike, axes: int | Sequence[int] | None = None, *, unit: str = "nats"
) -> float:
    """Entropy H(X_A) = -sum p(x_A) log p(x_A) of the axes A.

    Args:
        p: pmf, array with one axis per variable.
        axes: axis or axes of the joint entropy; default all.
        unit: "nats" or "bits".

    Returns:
        The entropy in `unit`, between 0 and the logarithm of the number of symbols.

    Raises:
        ValueError: not a pmf (negative, not finite, sum other than one, empty, integer counts),
            an axis that is missing or repeated, an unknown unit.

    Source:
        Cover & Thomas 2006, equation 2.1.

    Example:
        >>> entropy_pmf([0.5, 0.25, 0.25], unit="bits")
        1.5
    """
    pmf = _check(p, unit)
    keep = tuple(range(pmf.ndim)) if axes is None else _axes(pmf, axes, "axes")
    return exact_value(pmf, ((1.0, keep),)) / check_unit(unit)


def mutual_information_pmf(
    p: ArrayLike, x: int | Sequence[int] = 0, y: int | Sequence[int] = 1, *, unit: str = "nats"
) -> float:
    """Mutual information I(X; Y) = H(X) + H(Y) - H(X, Y) between two groups of axes.

    Args:
        p: pmf, array with one axis per variable; axes in neither group are summed out.
        x: axis or axes of the first group.
        y: axis or axes of the second group.
        unit: "nats" or "bits".

    Returns:
        The mutual information in `unit`, between 0 and min(H(X), H(Y)).

    Raises:
        ValueError: as `entropy_pmf`; an axis in both groups.

    Source:
        Cover & Thomas 2006, Theorem 2.4.1.

    Example:
        >>> copy = [[[0.5, 0.0]], [[0.0, 0.5]]]
        >>> mutual_information_pmf(copy, (0, 1), 2, unit="bits")
        1.0
    """
    pmf = _check(p, unit)
    groups = _groups(pmf, x=x, y=y)
    return _value(pmf, conditional_mutual_information_terms(*groups), unit)


def conditional_mutual_information_pmf(
    p: ArrayLike,
    x: int | Sequence[int] = 0,
    y: int | Sequence[int] = 1,
    z: int | Sequence[int] = 2,
    *,
    unit: str = "nats",
) -> float:
    """I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z) between groups of axes.

    Args:
        p: pmf, array with one axis per variable; axes in no group are summed out.
        x: axis or axes of the first group.
        y: axis or axes of the second group.
        z: axis or axes of the condition.
        unit: "nats" or "bits".

    Returns:
        The conditional mutual information in `unit`, at least 0.

    Raises:
        ValueError: as `mutual_information_pmf`.

    Source:
        Cover & Thomas 2006, equation 2.60.

    Example:
        >>> xor = [[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]
        >>> conditional_mutual_information_pmf(xor, 0, 2, 1, unit="bits")
        1.0
    """
    pmf = _check(p, unit)
    groups = _groups(pmf, x=x, y=y, z=z)
    return _value(pmf, conditional_mutual_information_terms(*groups), unit)


def co_information_pmf(p: ArrayLike, *, unit: str = "nats") -> float:
    """Co-information of all axes: sum over non-empty A of (-1)^(|A| + 1) H(X_A).

    For two axes, the mutual information. For three, I(X; Y) - I(X; Y | Z), which is redundancy
    minus synergy in a PID of two sources.

    Args:
        p: pmf with at least two axes.
        unit: "nats" or "bits".

    Returns:
        The co-information in `unit`; it can be negative.

    Raises:
        ValueError: as `entropy_pmf`; fewer than two axes.

    Source:
        Bell 2003, "The co-information lattice".

    Example:
        >>> xor = [[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]
        >>> co_information_pmf(xor, unit="bits")
        -1.0
    """
    pmf = _check(p, unit, least=2)
    return _value(pmf, co_information_terms(pmf.ndim), unit)


def total_correlation_pmf(p: ArrayLike, *, unit: str = "nats") -> float:
    """Total correlation (multi-information) of all axes: sum_i H(X_i) - H(X).

    Args:
        p: pmf with at least two axes.
        unit: "nats" or "bits".

    Returns:
        The total correlation in `unit`; 0 if and only if the axes are independent.

    Raises:
        ValueError: as `co_information_pmf`.

    Source:
        Watanabe 1960.

    Example:
        >>> xor = [[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]
        >>> total_correlation_pmf(xor, unit="bits")
        1.0
    """
    pmf = _check(p, unit, least=2)
    return _value(pmf, total_correlation_terms(pmf.ndim), unit)


def dual_total_correlation_pmf(p: ArrayLike, *, unit: str = "nats") -> float:
    """Dual total correlation of all axes: H(X) - sum_i H(X_i | X_-i).

    Args:
        p: pmf with at least two axes.
        unit: "nats" or "bits".

    Returns:
        The dual total correlation in `unit`; 0 if and only if the axes are independent.

    Raises:
        ValueError: as `co_information_pmf`.

    Source:
        Han 1978.

    Example:
        >>> xor = [[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]
        >>> dual_total_correlation_pmf(xor, unit="bits")
        2.0
    """
    pmf = _check(p, unit, least=2)
    return _value(pmf, dual_total_correlation_terms(pmf.ndim), unit)


def _check(p: ArrayLike, unit: str, *, least: int = 1) -> NDArray[np.float64]:
    check_unit(unit)
    pmf = as_pmf(p, counts="estimators.discrete.entropy and similar, as samples")
    if pmf.ndim < least:
        raise ValueError(f"p must have at least {least} axes, got shape {pmf.shape}")
    return pmf


def _value(pmf: NDArray[np.float64], terms: Terms, unit: str) -> float:
    return exact_value(pmf, terms) / check_unit(unit)


def _axes(pmf: NDArray[np.float64], given: int | Sequence[int], name: str) -> Axes:
    axes = (given,) if isinstance(given, int | np.integer) else tuple(given)
    for axis in axes:
        if not 0 <= axis < pmf.ndim:
            raise ValueError(f"{name} names axis {axis}; p has axes 0 to {pmf.ndim - 1}")
    if not axes or len(set(axes)) != len(axes):
        raise ValueError(f"{name} must name at least one axis and none twice, got {axes}")
    return tuple(int(axis) for axis in axes)


def _groups(pmf: NDArray[np.float64], **given: int | Sequence[int]) -> list[Axes]:
    groups = {name: _axes(pmf, axes, name) for name, axes in given.items()}
    owner: dict[int, str] = {}
    for name, axes in groups.items():
        for axis in axes:
            if axis in owner:
                raise ValueError(f"axis {axis} is in both {owner[axis]} and {name}")
            owner[axis] = name
    return list(groups.values())
