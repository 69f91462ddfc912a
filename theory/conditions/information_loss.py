"""Information lost by a skip: P-I, S2, S3, S9, S10."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from theory._validate import check_array
from theory.conditions.bound import Bound, count, numbers, within

#: Assumption on the entropies and informations that the bounds are given.
IN_NATS = "the entropies and informations are those of the distribution, in nats"


def information_gap_from_support(
    tail: float, *, size: int, largest_ball: int, smallest_ball: int
) -> Bound:
    """Distance-based Fano: H(X'|X) <= h_b(delta) + (1 - delta) log N + delta log(|X| - N_min).

    With the same bound on H(X|X'), it bounds |I(X'; Y) - I(X; Y)| too (P-Ib).

    Args:
        tail: delta = P(d(X, X') > eps).
        size: |X|, number of support points, at least 2.
        largest_ball: N, largest number of support points within eps of a support point.
        smallest_ball: N_min, smallest number of support points within eps of a support point.

    Returns:
        Bound in nats; log |X| if delta is too large for the inequality.

    Raises:
        ValueError: an argument is out of range, or not 1 <= N_min <= N <= |X|.

    Source:
        Statement P-Ia (reconstruction of arXiv:2509.25584). The condition delta <= 1 - 1/|X| is
        not sufficient.

    Example:
        >>> round(
        ...     information_gap_from_support(0.1, size=8, largest_ball=1, smallest_ball=1).value, 4
        ... )
        0.5197
    """
    within(tail, 0.0, 1.0, "tail")
    count(size, 2, "size")
    count(largest_ball, 1, "largest_ball")
    count(smallest_ball, 1, "smallest_ball")
    if not smallest_ball <= largest_ball <= size:
        raise ValueError(
            f"balls must satisfy smallest <= largest <= size, got {smallest_ball}, "
            f"{largest_ball}, {size}"
        )
    outside = size - smallest_ball
    covered = tail * (outside + largest_ball) <= outside
    value = math.log(size)
    if covered and (outside or not tail):
        outer = tail * math.log(outside) if tail else 0.0
        binary = float(entr(tail) + entr(1.0 - tail))
        value = min(value, binary + (1.0 - tail) * math.log(largest_ball) + outer)
    return Bound(
        quantity="H(X'|X)",
        value=value,
        unit="nats",
        statement="P-Ia",
        checked=(
            f"delta is {'at most' if covered else 'above'} "
            f"(|X| - N_min)/(|X| - N_min + N) = {outside / (outside + largest_ball):.4g}",
        ),
        assumed=("the support is finite, with the given numbers of points",),
    )


def vision_removal_cost(entropy_without: float, entropy_with: float) -> Bound:
    """H(Y|T) - H(Y|V,T) = I(Y; V|T): increase of the smallest log loss when vision is removed.

    Args:
        entropy_without: H(Y|T_l) >= 0, in nats.
        entropy_with: H(Y|V_l, T_l) >= 0, in nats, at most H(Y|T_l).

    Returns:
        Exact value in nats.

    Raises:
        ValueError: a negative entropy, or H(Y|V_l, T_l) > H(Y|T_l).

    Source:
        Statement S2.

    Example:
        >>> round(vision_removal_cost(0.7, 0.2).value, 12)
        0.5
    """
    within(entropy_with, 0.0, math.inf, "entropy_with")
    within(entropy_without, entropy_with, math.inf, "entropy_without")
    return Bound(
        quantity="I(Y; V|T)",
        kind="exactly",
        value=entropy_without - entropy_with,
        unit="nats",
        statement="S2",
        checked=("the entropy does not increase when V is added",),
        assumed=(IN_NATS,),
    )


def late_entry_loss_from_collisions(before: ArrayLike, after: ArrayLike) -> Bound:
    """I(Y; T_0 | V_0, g(T_0)) <= H(T_0 | g(T_0)): zero if g is injective on the prompts.

    The entropy is that of the empirical distribution; equal rows are the same prompt. It is almost
    always 0 on real-valued states, which does not imply that the fixed suffix can use them.

    Args:
        before: array of shape (n, ...), T_0 of n prompts (token ids or states).
        after: array of shape (n, ...), g(T_0), the same prompts after the text-only layers.

    Returns:
        Bound in nats.

    Raises:
        ValueError: different or zero lengths, or equal rows of `before` with different rows of
            `after` (g would not be a function of the prompt).

    Source:
        Statement S3.

    Example:
        >>> late_entry_loss_from_collisions([[1], [2], [3]], [[0.1], [0.2], [0.3]]).value
        0.0
    """
    first, second = (_rows(rows, name) for rows, name in ((before, "before"), (after, "after")))
    if len(first) != len(second):
        raise ValueError(f"before has {len(first)} rows, after {len(second)}")
    _, prompts = np.unique(first, axis=0, return_inverse=True)
    _, images = np.unique(second, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([prompts.ravel(), images.ravel()]), axis=1)
    if pairs.shape[1] != prompts.max() + 1:
        raise ValueError("equal rows of before have different rows of after: g is no function")
    loss = float(entr(_shares(prompts)).sum() - entr(_shares(images)).sum())
    return Bound(
        quantity="information that late entry discards",
        value=max(loss, 0.0),
        unit="nats",
        statement="S3",
        checked=(f"collisions of g counted on {len(first)} prompts",),
        assumed=("T_0 has the empirical distribution of the prompts",),
    )


def early_exit_loss_from_pid(unique_vision: float, synergistic: float) -> Bound:
    """I(Y; V|T) = U_V + S: early exit loses unique vision information and synergy.

    Args:
        unique_vision: U_V >= 0, in nats.
        synergistic: S >= 0, in nats.

    Returns:
        Exact value in nats; 0 iff early exit does not increase the Bayes risk for any loss.

    Raises:
        ValueError: a negative atom.

    Source:
        Statement S9.

    Example:
        >>> early_exit_loss_from_pid(0.0, math.log(2.0)).value > 0.69
        True
    """
    within(unique_vision, 0.0, math.inf, "unique_vision")
    within(synergistic, 0.0, math.inf, "synergistic")
    return Bound(
        quantity="I(Y; V|T)",
        kind="exactly",
        value=unique_vision + synergistic,
        unit="nats",
        statement="S9",
        checked=("both atoms are nonnegative",),
        assumed=("the decomposition obeys the consistency equations",),
    )


def withdrawal_gap_next(
    gap: float, *, text_information: float, next_text_information: float
) -> Bound:
    """g_{l+1} <= g_l + I(Y; T_l) - I(Y; T_{l+1}), with g_l = I(Y; V_l | T_l).

    The bound concerns information, not the fixed suffix.

    Args:
        gap: g_l >= 0, in nats.
        text_information: I(Y; T_l) >= 0, in nats.
        next_text_information: I(Y; T_{l+1}) >= 0, in nats.

    Returns:
        Bound on g_{l+1} in nats; at most g_l if the text information does not decrease.

    Raises:
        ValueError: a negative number, or I(Y; T_{l+1}) > I(Y; V_l, T_l), impossible for a Markov
            chain.

    Source:
        Statement S10.

    Example:
        >>> round(withdrawal_gap_next(
        ...     0.3, text_information=0.5, next_text_information=0.6
        ... ).value, 12)
        0.2
    """
    within(gap, 0.0, math.inf, "gap")
    within(text_information, 0.0, math.inf, "text_information")
    within(next_text_information, 0.0, gap + text_information + 1e-9, "next_text_information")
    keeps = next_text_information >= text_information
    return Bound(
        quantity="I(Y; V|T) after the next layer",
        value=max(0.0, gap + text_information - next_text_information),
        unit="nats",
        statement="S10",
        checked=(f"text information {'does not fall' if keeps else 'FALLS'} here",),
        assumed=(IN_NATS, "Y and the next state are independent given this state"),
    )


def _rows(values: ArrayLike, name: str) -> np.ndarray:
    """Validated array of shape (n, -1)."""
    check_array(values, name)
    array = np.asarray(values)
    if array.ndim < 1 or not len(array):
        raise ValueError(f"{name} needs at least one row, got shape {array.shape}")
    rows = array.reshape(len(array), -1)
    numbers(rows, name, ndim=2)
    return rows


def _shares(labels: np.ndarray) -> np.ndarray:
    """Relative frequencies of integer labels."""
    counts = np.bincount(labels.ravel()).astype(np.float64)
    return np.asarray(counts / counts.sum())
