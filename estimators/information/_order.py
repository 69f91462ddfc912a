"""An order of rows that depends on what they hold, not on their order in a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows

#: Columns of every side that decide the order.
_COLUMNS = 16


def order_of_rows(sides: Sequence[NDArray[np.float64] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Row numbers in ascending order of the sums of ranks, their squares, then of the columns.

    Halves, draws and folds are taken at random from ordered rows, so no result depends on the
    order of the file. Sums of ranks are also the same for monotone columns and swapped sides.
    """
    from scipy.stats import rankdata  # half a second to import

    rows: list[Rows] = [rankdata(side[:, :_COLUMNS], axis=0) for side in sides if side.ndim == 2]
    ranks = np.concatenate(rows, axis=1)
    keys = [*(side for side in sides if side.ndim == 1), *ranks.T[::-1]]
    return np.lexsort((*keys, (ranks**2).sum(axis=1), ranks.sum(axis=1))).astype(np.int64)
