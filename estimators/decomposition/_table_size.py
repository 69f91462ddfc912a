"""Limits on the size of tables, checked before anything of that size is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Largest table n[x1, x2, y] of a bootstrap: 32 symbols each.
SAMPLE_CELLS = 2**15
#: Largest number of cells of all resampled or permuted tables together: 512 MiB.
DRAWN_CELLS = 2**26
#: Largest array of the BROJA solver: twice that of 64 symbols each, 256 MiB.
SOLVER_ENTRIES = 2**25
#: Largest matrix of the linear programme of CCS: 512 MiB.
PROGRAMME_ENTRIES = 2**26


def check_samples(sizes: Sequence[int], n: int) -> None:
    """Raise ValueError for samples whose table of all combinations is too large.

    Args:
        sizes: numbers of symbols of x1, x2 and y.
        n: number of rows.
    """
    cells = math.prod(int(size) for size in sizes)
    if cells > SAMPLE_CELLS:
        said = ", ".join(
            f"{name} has {size:,}" for name, size in zip(("x1", "x2", "y"), sizes, strict=True)
        )
        raise ValueError(
            f"too many symbols ({said}): their table has {cells:,} cells for {n:,} rows, at most "
            f"{SAMPLE_CELLS:,} are counted; merge rare symbols, or bin numbers with "
            "estimators.quantize"
        )


def check_drawn(cells: int, **tables: int) -> None:
    """Raise ValueError if resampled or permuted tables are too many for their size."""
    for name, number in tables.items():
        if number * cells > DRAWN_CELLS:
            raise ValueError(
                f"{name}={number:,} tables of {cells:,} cells are too large together; ask for at "
                f"most {DRAWN_CELLS // cells:,}, or use fewer symbols"
            )


def check_solver(n_1: int, n_2: int, n_y: int) -> None:
    """Raise ValueError for a distribution that the BROJA solver cannot hold in memory."""
    largest = max((n_1 * n_2) ** 2, n_1**2 * n_2 * n_y, n_2**2 * n_1 * n_y, n_y * (n_1 + n_2) ** 2)
    if largest > SOLVER_ENTRIES:
        raise ValueError(
            f"p of {n_1:,} x {n_2:,} x {n_y:,} symbols is too large for BROJA: its solver would "
            f"need arrays of {8 * largest / 2**30:.1f} GiB; merge symbols (64 each are solved), or "
            "use measure='mmi' or 'imin'"
        )
