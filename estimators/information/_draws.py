"""Independent rows of clustered data: one row of every cluster, several times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.information._request import Request

#: Largest number of draws; with fewer rows per cluster each row is drawn once.
MOST_DRAWS = 10
#: Largest share of equal values in a column that counts as continuous.
MOST_TIES = 0.01
#: Largest information of repeated values, in nats, of rows that count as continuous.
MOST_OF_ATOMS = 0.005

Indices = NDArray[np.int64]


def draws(ask: Request, n: int) -> list[Indices]:
    """Row numbers of each draw, one of every cluster; all rows if there are no clusters.

    Rows of a cluster depend on each other, so those of the own cluster are no neighbours that
    tell anything about the density. The draws go through the rows of a cluster in random order,
    so clusters, not rows, have equal weight.
    """
    if ask.codes is None:
        return [np.arange(n)]
    sizes = np.bincount(ask.codes)
    shuffled = np.random.default_rng(ask.seed).permutation(n)
    members = shuffled[np.argsort(ask.codes[shuffled], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    count = min(int(sizes.max()), MOST_DRAWS)
    return [members[starts + number % sizes] for number in range(count)]


def halves(rows: list[Indices], seed: int) -> Iterator[tuple[Indices, list[Indices]]]:
    """Two random halves of the clusters: their numbers, and every draw on them."""
    order = np.random.default_rng(seed).permutation(len(rows[0]))
    middle = len(order) // 2
    for half in (np.sort(order[:middle]), np.sort(order[middle:])):
        yield half, [draw[half] for draw in rows]


def repeats(sides: Sequence[Rows], draw: Indices) -> Iterator[str]:
    """Messages about values that occur several times in x, y and perhaps z."""
    yield atoms_reason(sides[0], sides[1], draw)
    for side, name in zip(sides, "xyz", strict=False):
        yield ties_reason(side, draw, name)


def atoms_reason(x: Rows, y: Rows, draw: Indices) -> str:
    """Message about pairs of rows that occur several times on both sides; may be empty.

    A pair of share p adds about `p ln(1/p)` to the information, of which correlations know
    nothing.
    """
    counts = np.unique(np.concatenate([x, y], axis=1)[draw], axis=0, return_counts=True)[1]
    shares = counts[counts > 1] / len(draw)
    nats = float(-(shares * np.log(shares)).sum())
    if nats <= MOST_OF_ATOMS:
        return ""
    return (
        f"{shares.sum():.1%} of the rows of x and y together repeat another row, which adds about "
        f"{nats:.2g} nats to the information: the variables are not continuous"
    )


def ties_reason(rows: Rows, draw: Indices, name: str) -> str:
    """Message about a value that a large share of a column has; may be empty."""
    ordered = np.sort(rows[draw], axis=0)
    size = int(MOST_TIES * len(draw)) + 1
    tied = np.flatnonzero((ordered[size:] == ordered[:-size]).any(axis=0))
    if not tied.size:
        return ""
    return (
        f"more than {MOST_TIES:.0%} of the rows have the same value in column {tied[0]} of "
        f"{name}, so it is not continuous"
    )
