"""Rows that are nearer to a linear relation than the other rows let expect.

In rows that a layer hardly updates y is nearly x. Few such rows hold much information, and no
moment shows them: they are an excess of residuals at 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import betainc

from estimators._arrays import Rows
from estimators.information._neighbours import nearest

#: Significance level of each test.
ALARM = 1e-4
#: Least excess that is told: share of the rows times columns.
LEAST_SHARE = 0.01
#: Least information that neighbours may miss before it is told: nats, and share of the value.
LEAST_NATS, LEAST_OF_VALUE = 0.02, 0.05
#: Distances that are smaller than this part of the neighbours' count as this part: ranks are
#: equal by chance.
LEAST_PART = 0.01
#: Rows whose nearest neighbours are looked up; residuals are of up to twice as many.
MOST_ROWS = 2000


def excess_at_zero(squares: Rows, columns: int, freedom: float) -> float:
    """Share of rows that lie nearer to 0 than Gaussian rows do, or 0.0 if no more than by chance.

    Args:
        squares: (n, m) of m samples: `|e|^2 / (1 - h)` with e the residuals, whitened to
            orthonormal columns, and h the leverages. Of Gaussian rows it has a beta law with
            `columns / 2` and `(freedom - columns) / 2`.
        columns: number of columns of e.
        freedom: degrees of freedom of the residuals.

    Source:
        Berk and Jones 1979, Goodness-of-fit test statistics that dominate the Kolmogorov
        statistics, Z. Wahrscheinlichkeitstheorie 47; here at few order statistics.
    """
    samples = np.ascontiguousarray(squares[:: -(-len(squares) // (2 * MOST_ROWS))].T)
    n = samples.shape[1]
    ks = 2 ** np.arange(3, max(3, int(np.log2(n)) - 1))
    if not ks.size or freedom <= columns:
        return 0.0
    kth = np.minimum(np.partition(samples, ks - 1, axis=1)[:, ks - 1], 1.0)
    # Values that are stored with few digits repeat: nothing below one row in n is looked at.
    expected = np.maximum(betainc(columns / 2.0, (freedom - columns) / 2.0, kth), 1.0 / n)
    excess = ks / n - expected
    by_chance = betainc(ks, n - ks + 1.0, expected)
    told = (by_chance < ALARM / kth.size) & (excess > LEAST_SHARE / columns)
    return float(excess[told].max()) if told.any() else 0.0


def differences(x: Rows, y: Rows, *, whole: bool) -> Iterator[tuple[Rows, int]]:
    """(squares, columns) of `x - y` for `excess_at_zero`, where x and y have equally many columns.

    The squares of every column, and those of the norms of whitened rows if `whole`. No mean is
    removed: it is 0 that rows without change share.
    """
    if x.shape[1] != y.shape[1]:
        return
    rows = x - y
    size = np.linalg.norm(rows, axis=0)
    if not size.all():
        return
    rows = rows / size
    yield rows**2, 1
    if whole:
        yield (np.linalg.qr(rows)[0] ** 2).sum(axis=1)[:, None], rows.shape[1]


def unchanged_reason(x: Rows, y: Rows) -> str:
    """Message if a small share of rows is nearly equal in x and y, of any law; may be empty.

    Of the m smallest distances |x - y|, for shares of 1/2, 1/4 .. of the rows, at most a quarter
    lies below a sixteenth of the largest: a sixteenth does for any density in one column, and
    fewer in more. Rows that repeat, as zeros do on both sides, are left out.
    """
    if x.shape[1] != y.shape[1]:
        return ""
    rows = x - y
    size = np.abs(rows).max(axis=0)
    rows = rows / np.where(size > 0.0, size, 1.0)
    size = np.sqrt((rows**2).mean(axis=0))
    far = np.linalg.norm(rows / np.where(size > 0.0, size, 1.0), axis=1)
    equal = np.flatnonzero(far == 0.0)
    if equal.size:
        of_row, count = np.unique(x[equal], axis=0, return_inverse=True, return_counts=True)[1:]
        far = np.delete(far, equal[count[of_row.reshape(-1)] > 1])
    ordered, n = np.sort(far), len(far)
    ms = [n >> power for power in range(1, 20) if n >> power >= 16]
    for m in ms:
        within = int(np.searchsorted(ordered[:m], ordered[m - 1] / 16.0))
        if within and betainc(within, m - within + 1.0, 0.25) < ALARM / len(ms):
            return (
                f"in {within / len(x):.1%} of the rows x and y are nearly equal, which no smooth "
                "density explains; estimate these rows apart"
            )
    return ""


def unresolved_reason(x: Rows, y: Rows, value: float, given: Rows | None = None) -> str:
    """Message if rows lie much nearer to a linear relation than to their neighbours; may be empty.

    With `u` the distance of a row from the relation over that from its third neighbour, q the
    columns of the relation, and a density that is smooth between neighbours, `-q ln u` of the rows
    with `u < 1` is exponential with mean 1. The sum beyond that is the information that
    neighbours miss. The relations are `x = y`, and the regressions of either side on the other.

    Args:
        x: (n, p) standardised independent rows.
        y: (n, q) likewise.
        value: the information, in nats, that neighbours see.
        given: (n, r) likewise, a further regressor.
    """
    also = [] if given is None else [given]
    relations = [_rest(y, [x, *also]), _rest(x, [y, *also])]
    if x.shape[1] == y.shape[1]:
        relations.append(x - y)
    joint = np.concatenate([x, y, *also], axis=1)
    some = slice(None, None, -(-len(x) // MOST_ROWS))
    radii = nearest(joint, (3,), some)[:, 0]
    for relation in relations:
        far = np.abs(relation[some]).max(axis=1)
        within = far < radii
        part = np.maximum(far[within] / radii[within], LEAST_PART)
        beyond = -relation.shape[1] * float(np.log(part).sum()) - within.sum()
        missed = beyond / len(far)
        least = max(LEAST_NATS, LEAST_OF_VALUE * value)
        if beyond > 5.0 * within.sum() ** 0.5 and missed > least:
            return (
                f"{within.mean():.1%} of the rows lie nearer to a linear relation of x and y than "
                f"to their neighbours, which miss at least {missed:.2g} nats"
            )
    return ""


def _rest(y: Rows, regressors: list[Rows]) -> Rows:
    """Residuals of regression of centred columns."""
    basis = np.linalg.qr(np.concatenate(regressors, axis=1))[0]
    return np.asarray(y - basis @ (basis.T @ y))
