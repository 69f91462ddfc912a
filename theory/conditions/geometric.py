"""From distances between adjacent states: G-P, G-F, P-F, S6b and the matrix entropy S12."""

from __future__ import annotations

import math

from scipy.special import entr

from theory.conditions.bound import Bound, count, within

INFINITY = math.inf
_POPULATION = "the mean (or share) is that of the population, not only of the sample"


def tail_from_mean(mean: float, *, threshold: float) -> Bound:
    """P(d > t) <= E d / t: few far moves where the mean move is small.

    Args:
        mean: mean cosine distance, in [0, 2].
        threshold: t > 0.

    Returns:
        Bound on a probability, unit "1", at most 1.

    Raises:
        ValueError: a mean outside [0, 2], a threshold that is not positive.

    Source:
        Statement G-P (Markov).

    Example:
        >>> tail_from_mean(0.02, threshold=0.1).value
        0.2
    """
    within(mean, 0.0, 2.0, "mean cosine distance")
    if not threshold > 0.0:
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
    """E d <= t (1 - delta) + 2 delta, with delta = P(d > t) and 2 the largest distance.

    Args:
        tail: delta, in [0, 1].
        threshold: t, in [0, 2].

    Returns:
        Bound on a mean cosine distance, unit "1".

    Raises:
        ValueError: a number out of range.

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

    h reads directions: it is alpha-Lipschitz in x/|x|. Probes and heads that normalise do;
    a pre-norm tail also feels the norm and is **not** covered (S6b).

    Args:
        mean: eps, mean cosine distance between x and x', in [0, 2].
        lipschitz: alpha >= 0, unit of h per unit of chord.
        n_tokens: 1 where x is one vector; n where `mean` is over the n tokens of a slice that
            h reads as a whole, in the Euclidean norm of the stacked directions.
        other_lipschitz: beta >= 0, in the other modality.
        other_shift: E|z - z'| >= 0, the mean length by which the other argument moved.

    Returns:
        Bound in the unit of h ("loss").

    Raises:
        ValueError: a number out of range.

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
        tail: delta, in [0, 1].
        threshold: eps, in [0, 2].
        lipschitz: alpha >= 0, in the direction x/|x|.

    Returns:
        Bound in the unit of h ("loss").

    Raises:
        ValueError: a number out of range.

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
    """|h' - h| = sqrt((|h'| - |h|)^2 + 2 |h| |h'| d): the length of an update, exactly.

    Args:
        norm_before: |h| > 0.
        norm_after: |h'| > 0.
        cosine: d, the cosine distance, in [0, 2].

    Returns:
        Exact value, unit "state".

    Raises:
        ValueError: a norm that is not positive, a distance outside [0, 2].

    Source:
        Statement S6b (law of cosines). d alone bounds nothing: the first term is left.

    Example:
        >>> state_gap(3.0, 4.0, 1.0).value, state_gap(1.0, 5.0, 0.0).value
        (5.0, 4.0)
    """
    for name, norm in (("norm_before", norm_before), ("norm_after", norm_after)):
        if not 0.0 < norm < math.inf:
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
    """|S(A) - S(B)| <= T log(n - 1) + h_b(T), T = sqrt(c (2 - c)): entropy of token Gram matrices.

    A and B are the Gram matrices of n unit rows, divided by n; c is the mean cosine distance
    between their rows. Where T > 1 - 1/n only the trivial bound log n is left.

    Args:
        mean: c, in [0, 2].
        n: rows, at least 2.

    Returns:
        Bound in nats.

    Raises:
        ValueError: a number out of range.

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
    # Beyond, both entropies lie in [0, log n] and nothing more is known.
    change = trace * math.log(n - 1) + float(entr(trace) + entr(1.0 - trace))
    return Bound(
        quantity="change of the matrix entropy",
        value=min(change, math.log(n)) if covered else math.log(n),
        unit="nats",
        statement="S12",
        checked=(f"T = {trace:.4g} is {'at most' if covered else 'above'} 1 - 1/n",),
        assumed=("the rows of both matrices have unit length",),
    )
