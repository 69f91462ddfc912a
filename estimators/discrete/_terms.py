"""Information measures as signed sums of joint entropies, sum_A c_A H(X_A)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from estimators._pmf import entropy_of, marginal

Axes = tuple[int, ...]
Terms = tuple[tuple[float, Axes], ...]


def _collect(*terms: tuple[float, Axes]) -> Terms:
    """Merge equal sets of axes; drop zero coefficients and empty sets."""
    total: dict[Axes, float] = {}
    for coefficient, axes in terms:
        key = tuple(sorted(set(axes)))
        total[key] = total.get(key, 0.0) + coefficient
    return tuple((c, axes) for axes, c in total.items() if c and axes)


def conditional_mutual_information_terms(x: Axes, y: Axes, z: Axes = ()) -> Terms:
    """I(X; Y | Z) = H(XZ) + H(YZ) - H(XYZ) - H(Z)."""
    return _collect((1.0, x + z), (1.0, y + z), (-1.0, x + y + z), (-1.0, z))


def co_information_terms(v: int) -> Terms:
    """Signed sum over non-empty A of (-1)^(|A| + 1) H(X_A)."""
    return _collect(
        *(((-1.0) ** (k + 1), axes) for k in range(1, v + 1) for axes in combinations(range(v), k))
    )


def total_correlation_terms(v: int) -> Terms:
    """sum_i H(X_i) - H(X)."""
    return _collect(*((1.0, (i,)) for i in range(v)), (-1.0, tuple(range(v))))


def dual_total_correlation_terms(v: int) -> Terms:
    """H(X) - sum_i H(X_i | X_-i) = sum_i H(X_-i) - (v - 1) H(X)."""
    rest = ((1.0, tuple(j for j in range(v) if j != i)) for i in range(v))
    return _collect(*rest, (1.0 - v, tuple(range(v))))


def invariant_terms(v: int) -> tuple[Terms, Terms, Terms]:
    """sum_i I(X_i; Y), sum_i I(X_i; Y | X_-i) and I(X; Y); the target Y is the last variable."""
    sources, y = tuple(range(v - 1)), (v - 1,)
    single = [conditional_mutual_information_terms((i,), y) for i in sources]
    last = [
        conditional_mutual_information_terms((i,), y, tuple(j for j in sources if j != i))
        for i in sources
    ]
    return (
        _collect(*(term for terms in single for term in terms)),
        _collect(*(term for terms in last for term in terms)),
        conditional_mutual_information_terms(sources, y),
    )


def entropy_limits(sizes: Sequence[float]) -> tuple[float, float]:
    """0 and ln k."""
    return 0.0, math.log(sizes[0])


def pair_limits(sizes: Sequence[float]) -> tuple[float, float]:
    """0 and ln min(k_x, k_y), of I(X; Y) and of I(X; Y | Z)."""
    return 0.0, math.log(min(sizes[:2]))


def co_information_limits(sizes: Sequence[float]) -> tuple[float, float]:
    """Between -+ ln min k for three variables; each further one doubles the range."""
    if len(sizes) == 2:
        return pair_limits(sizes)
    most = math.log(min(sizes)) * 2.0 ** (len(sizes) - 3)
    return -most, most


def correlation_limits(sizes: Sequence[float]) -> tuple[float, float]:
    """0 and sum_i ln k_i without the largest, of total and dual total correlation."""
    return 0.0, sum(map(math.log, sorted(sizes)[:-1]))


def exact_value(p: NDArray[np.float64], terms: Terms) -> float:
    """Value of a measure for the pmf `p`, in nats."""
    return sum(c * entropy_of(marginal(p, axes)) for c, axes in terms)


def mutual_information_of(p: NDArray[np.float64]) -> float:
    """I(X; Y) of a pmf p[x, y] that is not checked, in nats."""
    return exact_value(p, conditional_mutual_information_terms((0,), (1,)))
