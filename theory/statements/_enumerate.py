"""Enumeration of finite domains, and the Bayes risk of a pmf."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from theory.pmf import Pmf


def bayes_risk(p: Pmf, loss: NDArray[np.float64]) -> float:
    """Bayes risk sum_h min_a sum_y p(y, h) loss(a, y) for a joint pmf of (Y, H)."""
    return float((loss @ p).min(axis=0).sum())


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ordered sums of `parts` integers >= 0 that equal `total`."""
    for bars in combinations(range(total + parts - 1), parts - 1):
        ends = (-1, *bars, total + parts - 1)
        yield tuple(b - a - 1 for a, b in pairwise(ends))
