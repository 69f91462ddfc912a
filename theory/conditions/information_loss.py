"""Information lost by a skip, from entropies and informations: P-I, S2, S3, S9, S10."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from theory.conditions.bound import Bound, count, numbers, within

#: What every bound on entropies and informations assumes of its arguments.
IN_NATS = "the entropies and informations are those of the distribution, in nats"


def information_gap_from_support(
    tail: float, *, size: int, largest_ball: int, smallest_ball: int
) -> Bound:
    """H(X'|X) <= h_b(delta) + (1 - delta) log N + delta log(|X| - N_min): a distance-based Fano.

    It bounds |I(X'; Y) - I(X; Y)| where it holds in both directions.

    Args:
        tail: delta = P(d(X, X') > eps), in [0, 1].
        size: |X|, support points, at least 2.
        largest_ball: N, most support points within eps of a support point, 1 to size.
        smallest_ball: N_min, fewest of them, 1 to `largest_ball`.

    Returns:
        Bound in nats; log |X| where delta is too large for the inequality.

    Raises:
        ValueError: a number out of range.

    Source:
        Statement P-Ia (reconstruction of arXiv:2509.25584). With only delta <= 1 - 1/|X| it
        would be false.

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
        far = tail * math.log(outside) if tail else 0.0
        binary = float(entr(tail) + entr(1.0 - tail))
        value = min(value, binary + (1.0 - tail) * math.log(largest_ball) + far)
    return Bound(
        quantity="H(X'|X)",
        value=value,
        unit="nats",
        statement="P-Ia",
        checked=(
            f"delta is {'at most' if covered else 'above'} "
            f"(|X| - N_min)/(|X| - N_min + N) = {outside / (outside + largest_ball):.4g}",
        ),
        assumed=("the support is finite and has the size and balls given",),
    )


def vision_removal_cost(entropy_without: float, entropy_with: float) -> Bound:
    """H(Y|T) - H(Y|V,T) = I(Y; V|T): what removing vision costs the best predictor in log loss.

    Args:
        entropy_without: H(Y|T_l) >= 0, in nats.
        entropy_with: H(Y|V_l, T_l), in nats, at most the former.

    Returns:
        Exact value in nats.

    Raises:
        ValueError: a negative entropy, or information that hurts.

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
        checked=("conditioning on more does not raise the entropy",),
        assumed=(IN_NATS,),
    )


def late_entry_loss_from_collisions(before: ArrayLike, after: ArrayLike) -> Bound:
    """I(Y; T_0 | V_0, g(T_0)) <= H(T_0 | g(T_0)): zero where g tells all prompts apart.

    The entropy is computed on the prompts given, each counted once per row: equal rows are the
    same prompt. On real-valued states it is 0 almost always, and says nothing about what the
    fixed tail can still use.

    Args:
        before: array of shape (n, ...), T_0 of n prompts (token ids or states).
        after: array of shape (n, ...), g(T_0): the same prompts after the text-only layers.

    Returns:
        Bound in nats.

    Raises:
        ValueError: lengths that differ or are zero; equal rows of `before` with different rows
            of `after` (then g is no function of the prompt).

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
        assumed=("the prompts given are the support of T_0",),
    )


def early_exit_loss_from_pid(unique_vision: float, synergistic: float) -> Bound:
    """I(Y; V|T) = U_V + S: unique vision information alone is not what early exit discards.

    Args:
        unique_vision: U_V >= 0, in nats.
        synergistic: S >= 0, in nats.

    Returns:
        Exact value in nats; early exit is lossless for every loss iff it is 0.

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

    Information only: it says nothing about the fixed tail.

    Args:
        gap: g_l >= 0, in nats.
        text_information: I(Y; T_l) >= 0, in nats.
        next_text_information: I(Y; T_{l+1}) >= 0, in nats.

    Returns:
        Bound on g_{l+1} in nats; at most g_l where text information does not fall.

    Raises:
        ValueError: a negative number, or numbers that no Markov chain has.

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
    grows = next_text_information >= text_information
    return Bound(
        quantity="I(Y; V|T) one layer on",
        value=max(0.0, gap + text_information - next_text_information),
        unit="nats",
        statement="S10",
        checked=(f"text information {'does not fall' if grows else 'FALLS'} here",),
        assumed=(IN_NATS, "the next state depends on Y through this one only"),
    )


def _rows(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim < 1 or not len(array):
        raise ValueError(f"{name} needs at least one row, got shape {array.shape}")
    rows = array.reshape(len(array), -1)
    numbers(rows, name, ndim=2)
    return rows


def _shares(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels.ravel()).astype(np.float64)
    return np.asarray(counts / counts.sum())
