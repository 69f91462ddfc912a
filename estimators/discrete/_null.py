"""Permutation tests: plug-in measures of permuted samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.discrete._samples import Codes, joint_codes
from estimators.discrete._terms import Axes, Terms

# Entries of one block of permuted samples: 32 MB of int64.
_BLOCK = 4_000_000


def permuted_values(
    codes: Codes,
    terms: Terms,
    *,
    shuffled: Axes,
    strata: Axes = (),
    permutations: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Plug-in measure, in nats, of samples with permuted columns `shuffled`.

    Each column of `shuffled` is permuted separately; the others are unchanged. With `strata`,
    only rows that agree in those columns are exchanged.

    Returns:
        Array of shape (permutations,).
    """
    n, variables = codes.shape
    stratum = joint_codes(codes, strata) if strata else np.zeros(n, dtype=np.int64)
    order = np.argsort(stratum, kind="stable")
    sorted_codes, sorted_stratum = codes[order], stratum[order]
    block = max(1, _BLOCK // (n * variables))
    values = []
    for start in range(0, permutations, block):
        size = min(block, permutations - start)
        columns = [np.broadcast_to(sorted_codes[:, j], (size, n)) for j in range(variables)]
        for j in shuffled:
            # Keys in [stratum, stratum + 1) sort to a uniform permutation within each stratum.
            draw = np.argsort(sorted_stratum + rng.random((size, n)), axis=1)
            columns[j] = sorted_codes[draw, j]
        values.append(sum(c * entropy_rows([columns[j] for j in axes]) for c, axes in terms))
    return np.concatenate(values)


def entropy_rows(columns: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Plug-in joint entropy, in nats, of each row of samples; columns of shape (size, n)."""
    joint = columns[0]
    for column in columns[1:]:
        joint = joint * (column.max() + 1) + column
    joint = np.sort(joint, axis=1)
    size, n = joint.shape
    first = np.ones((size, n), dtype=bool)
    first[:, 1:] = joint[:, 1:] != joint[:, :-1]
    start = np.flatnonzero(first)
    run = np.diff(np.append(start, size * n)).astype(np.float64)
    weighted = np.bincount(start // n, weights=run * np.log(run), minlength=size)
    entropy: NDArray[np.float64] = np.log(n) - weighted / n
    return entropy


def p_value(observed: float, null: NDArray[np.float64], *, two_sided: bool = False) -> float:
    """(1 + #{null >= observed}) / (1 + B), valid for any B; two-sided: twice the smaller tail."""
    slack = 1e-12  # equal tables may differ in the last bits
    above = (1 + int((null >= observed - slack).sum())) / (1 + null.size)
    below = (1 + int((null <= observed + slack).sum())) / (1 + null.size)
    return min(1.0, 2.0 * min(above, below)) if two_sided else above
