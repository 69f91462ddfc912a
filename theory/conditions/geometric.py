"""Bounds from distances between adjacent states: G-P, G-F, P-F, S6b, S12."""

from __future__ import annotations

import math

from scipy.special import entr

from theory._validate import check_number
from theory.conditions.bound import Bound, count, within

INFINITY = math.inf
_POPULATION = "the mean (or share) is that of the population, not only of the sample"


def tail_from_mean(mean: float, *, threshold: float) -> Bound:
    """P(d > t) <= E d / t: a small mean distance implies few large distances.

    Args:
        mean: mean cosine distance, in [0, 2].
        threshold: t > 0.

    Returns:
        Bound on a probability, unit "1", at most 1.

    Raises:
        ValueError: the mean is outside [0, 2], or the threshold is not positive.

    Source:
        Statement G-P (Markov).

    Example:
        >>> tail_from_mean(0.02, threshold=0.1).value
        0.2
    """
    within(mean, 0.0, 2.0, "mean cosine distance")
    if not check_number(threshold, "threshold") > 0.0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    return Bound(
        quantity=f"P(cosine distance > {threshold:g})",
        value=min(1.0, mean / threshold),
        unit="1",
        statement="G-P",
        checked=("mean cosine distance lies in [0, 2]",),
        assumed=(_POPULATION,),
    )


def mean_from_tail(tail: float, *, threshold: float) -> Bound:
    """E d <= t (1 - delta) + 2 delta, with delta = P(d > t) and d <= 2.

    Args:
        tail: delta, a probability.
        threshold: t, in [0, 2].

    Returns:
        Bound on a mean cosine distance, unit "1".

    Raises:
        ValueError: an argument is out of range.

    Source:
        Statement G-P.

    Example:
        >>> round(mean_from_tail(0.1, threshold=0.2).value, 12)
        0.38
    """
    within(tail, 0.0, 1.0, "tail")
    within(threshold, 0.0, 2.0, "threshold")
    return Bound(
        quantity="mean cosine distance",
        value=threshold * (1.0 - tail) + 2.0 * tail,
        unit="1",
        statement="G-P",
        checked=("tail is a probability and threshold lies in [0, 2]",),
        assumed=(_POPULATION,),
    )


def functional_gap_from_cosine(
    mean: float,
    *,
    lipschitz: float = 1.0,
    n_tokens: int = 1,
    other_lipschitz: float = 0.0,
    other_shift: float = 0.0,
) -> Bound:
    """|E h(x, z) - E h(x', z')| <= alpha sqrt(2 n eps) + beta E|z - z'|.

    h is alpha-Lipschitz in the direction x/|x|, as are probes and heads that normalise. The suffix
    of a pre-norm model also depends on the norm of x and is **not** covered (S6b).

    Args:
        mean: eps, mean cosine distance between x and x', in [0, 2].
        lipschitz: alpha >= 0, in units of h per unit of |x/|x| - x'/|x'||.
        n_tokens: 1 if x is one vector; n if h reads a slice of n tokens, in the Euclidean norm of
            the stacked directions, and `mean` is the mean over these tokens.
        other_lipschitz: beta >= 0, Lipschitz constant in the other modality.
        other_shift: E|z - z'| >= 0, mean change of the other modality.

    Returns:
        Bound in the unit of h ("loss").

    Raises:
        ValueError: an argument is out of range.

    Source:
        Statement G-F (reconstruction of arXiv:2509.25584).

    Example:
        >>> functional_gap_from_cosine(0.02, lipschitz=3.0).value
        0.6
    """
    within(mean, 0.0, 2.0, "mean cosine distance")
    within(lipschitz, 0.0, INFINITY, "lipschitz")
    within(other_lipschitz, 0.0, INFINITY, "other_lipschitz")
    within(other_shift, 0.0, INFINITY, "other_shift")
    count(n_tokens, 1, "n_tokens")
    shift = other_lipschitz * other_shift
    return Bound(
        quantity="change of E h",
        value=lipschitz * math.sqrt(2.0 * n_tokens * mean) + shift,
        unit="loss",
        statement="G-F",
        checked=("mean cosine distance lies in [0, 2]",),
        assumed=(_POPULATION, "h is Lipschitz in the direction x/|x| with the constant given"),
    )


def functional_gap_from_tail(tail: float, *, threshold: float, lipschitz: float = 1.0) -> Bound:
    """|E h(x) - E h(x')| <= alpha ((1 - delta) sqrt(2 eps) + 2 delta), delta = P(d > eps).

    Args:
        tail: delta, a probability.
        threshold: eps, in [0, 2].
        lipschitz: alpha >= 0, in the direction x/|x|.

    Returns:
        Bound in the unit of h ("loss").

    Raises:
        ValueError: an argument is out of range.

    Source:
        Statement P-F (reconstruction of arXiv:2509.25584).

    Example:
        >>> functional_gap_from_tail(0.1, threshold=0.02).value
        0.38
    """
    within(tail, 0.0, 1.0, "tail")
    within(threshold, 0.0, 2.0, "threshold")
    within(lipschitz, 0.0, INFINITY, "lipschitz")
    return Bound(
        quantity="change of E h",
        value=lipschitz * ((1.0 - tail) * math.sqrt(2.0 * threshold) + 2.0 * tail),
        unit="loss",
        statement="P-F",
        checked=("tail is a probability and threshold lies in [0, 2]",),
        assumed=(_POPULATION, "h is Lipschitz in the direction x/|x| with the constant given"),
    )


def state_gap(norm_before: float, norm_after: float, cosine: float) -> Bound:
    """|h' - h| = sqrt((|h'| - |h|)^2 + 2 |h| |h'| d): exact norm of an update.

    Args:
        norm_before: |h| > 0.
        norm_after: |h'| > 0.
        cosine: d, the cosine distance, in [0, 2].

    Returns:
        Exact value, unit "state".

    Raises:
        ValueError: a norm is not positive and finite, or the distance is outside [0, 2].

    Source:
        Statement S6b (law of cosines). The distance d alone does not bound |h' - h|.

    Example:
        >>> state_gap(3.0, 4.0, 1.0).value, state_gap(1.0, 5.0, 0.0).value
        (5.0, 4.0)
    """
    for name, norm in (("norm_before", norm_before), ("norm_after", norm_after)):
        if not 0.0 < check_number(norm, name) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {norm}")
    within(cosine, 0.0, 2.0, "cosine")
    square = (norm_after - norm_before) ** 2 + 2.0 * norm_before * norm_after * cosine
    return Bound(
        quantity="|h' - h|",
        kind="exactly",
        value=math.sqrt(square),
        unit="state",
        statement="S6b",
        checked=("both norms are positive and the distance lies in [0, 2]",),
    )


def matrix_entropy_change(mean: float, *, n: int) -> Bound:
    """|S(A) - S(B)| <= T log(n - 1) + h_b(T), T = sqrt(c (2 - c)): change of a matrix entropy.

    A and B are Gram matrices of n unit rows (tokens), divided by n; c is the mean cosine distance
    between corresponding rows. If T > 1 - 1/n the bound is log n.

    Args:
        mean: c, in [0, 2].
        n: number of rows, at least 2.

    Returns:
        Bound in nats.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Statement S12 (Audenaert 2007).

    Example:
        >>> round(matrix_entropy_change(0.001, n=64).value, 3)
        0.368
    """
    within(mean, 0.0, 2.0, "mean cosine distance")
    count(n, 2, "n")
    trace = math.sqrt(mean * (2.0 - mean)) if mean <= 1.0 else 1.0
    covered = trace <= 1.0 - 1.0 / n
    # For larger T only the trivial bound is known: both entropies lie in [0, log n].
    change = trace * math.log(n - 1) + float(entr(trace) + entr(1.0 - trace))
    return Bound(
        quantity="change of the matrix entropy",
        value=min(change, math.log(n)) if covered else math.log(n),
        unit="nats",
        statement="S12",
        checked=(f"T = {trace:.4g} is {'at most' if covered else 'above'} 1 - 1/n",),
        assumed=("the rows of both matrices have unit length",),
    )
