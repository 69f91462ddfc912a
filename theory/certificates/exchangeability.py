"""Do deployment inputs look like certification inputs? Exact tests of a score of the input."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._validate import check_array, check_count, check_fraction

Floats = NDArray[np.float64]

#: Bets of the jumper, and the share that moves between them at every step.
JUMPS, JUMP_RATE = (-1.0, 0.0, 1.0), 0.01


def exchangeability_p_value(
    certification: ArrayLike, deployment: ArrayLike, *, permutations: int = 999, seed: int = 0
) -> float:
    """P-value of "both samples are exchangeable", by permuting which score is of which sample.

    The statistic is Kolmogorov-Smirnov's largest difference of both distribution functions. With B
    random permutations, p = (1 + number of them whose statistic is at least ours) / (B + 1), and
    **P(p <= alpha) <= alpha exactly**, for any score and any sizes, if all inputs are
    exchangeable. A small p-value says that the certificate was drawn from other inputs than those
    served; a large one does not say that they are alike.

    Args:
        certification: array of shape (n,), a score of each certification image that was chosen
            before, such as the model's confidence; only the order of scores counts, so that they
            may be infinite.
        deployment: array of shape (m,), the same score of each deployment image.
        permutations: B; the smallest possible p-value is 1 / (B + 1).
        seed: of the permutations.

    Returns:
        p-value in (0, 1].

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no scores, a score that is NaN, permutations below 1.

    Source:
        Phipson & Smyth 2010, equation 2 (exact Monte-Carlo permutation p-values); Kolmogorov 1933.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> same, other = rng.normal(size=(2, 100)), rng.normal(1.0, size=100)
        >>> exchangeability_p_value(*same), exchangeability_p_value(same[0], other)
        (0.712, 0.001)
    """
    x, y = _scores(certification, "certification"), _scores(deployment, "deployment")
    check_count(permutations, "permutations")
    rng = np.random.default_rng(check_count(seed, "seed", least=0))
    pooled = np.concatenate((x, y))
    order = np.argsort(pooled, kind="stable")
    ranked = pooled[order]  # equal scores, infinite ones too, are one step
    ends = np.append(ranked[1:] > ranked[:-1], True)
    first = np.arange(pooled.size) < x.size
    ours = _largest_gap(first[order], ends)
    others = (_largest_gap(rng.permutation(first), ends) for _ in range(permutations))
    exceed = sum(other >= ours - 1e-12 for other in others)
    return (1 + exceed) / (permutations + 1)


def conformal_p_values(calibration: ArrayLike, stream: ArrayLike, *, seed: int = 0) -> Floats:
    """P-values of a stream: independent and uniform if calibration and stream are exchangeable.

    p_t = (number of earlier scores above s_t + U_t (number of scores equal to s_t)) / t', where the
    earlier scores are all of the calibration and the stream before t, both counts include s_t
    itself, t' is their number, and U_t is uniform: small where s_t is unusually large.

    Args:
        calibration: array of shape (n,), scores of the certification images.
        stream: array of shape (m,), scores of the requests, in their order.
        seed: of the U_t.

    Returns:
        Array of shape (m,) in [0, 1].

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no scores, or a score that is NaN.

    Source:
        Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, section 2.4 and
        Theorem 8.1.

    Example:
        >>> conformal_p_values([1.0, 2.0, 3.0], [9.0, 0.0], seed=1).round(2).tolist()
        [0.13, 0.99]
    """
    known, new = _scores(calibration, "calibration"), _scores(stream, "stream")
    uniform = np.random.default_rng(check_count(seed, "seed", least=0)).random(new.size)
    ordered = np.sort(known).tolist()
    return np.array(list(_p_values(ordered, new.tolist(), uniform.tolist())))


def exchangeability_capital(p_values: ArrayLike) -> Floats:
    """Capital of a bettor against uniform p-values, after each of them (the Simple Jumper).

    The bettor's capital is spread over the bets e in (-1, 0, 1); each p-value multiplies a part by
    1 + e (p - 1/2), and before it a share J = .01 of all capital is spread equally again. If the
    p-values are independent and uniform this is a martingale that starts at 1, so that
    **P(capital >= 1/alpha at any time) <= alpha** (Ville): stop and look whenever you like.

    Args:
        p_values: array of shape (n,) in [0, 1], of `conformal_p_values`.

    Returns:
        Array of shape (n,), positive.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no p-values, or one outside [0, 1].

    Source:
        Vovk, Petej, Nouretdinov, Ahlberg, Carlsson & Gammerman 2021, arXiv 2102.10439, Algorithm 1.

    Example:
        >>> bool(exchangeability_capital([0.0] * 30)[-1] > 1000)  # e = -1 wins 3/2 each time
        True
    """
    p = check_array(p_values, "p_values").ravel()
    if not p.size or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"p_values must be numbers in [0, 1], at least one, got {p[:3].tolist()}")
    bets, capital = np.array(JUMPS), np.full(len(JUMPS), 1.0 / len(JUMPS))
    path = []
    for one in p:
        capital = (1.0 - JUMP_RATE) * capital + JUMP_RATE * capital.mean()
        capital = np.minimum(capital * (1.0 + bets * (one - 0.5)), 1e300)
        path.append(float(capital.sum()))
    return np.array(path)


def stream_alarm(calibration: ArrayLike, stream: ArrayLike, alpha: float, *, seed: int = 0) -> int:
    """Number of requests after which a stream is known to differ, at level alpha; 0 if never.

    The first t at which `exchangeability_capital` of `conformal_p_values` reaches 1/alpha: false
    with probability at most alpha over all time, if calibration and stream are exchangeable.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no scores, a score that is NaN, or alpha outside (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> stream_alarm(rng.normal(size=300), rng.normal(1.5, size=300), 0.01) > 0
        True
    """
    check_fraction(alpha, "alpha")
    capital = exchangeability_capital(conformal_p_values(calibration, stream, seed=seed))
    reached = np.flatnonzero(capital >= 1.0 / alpha)
    return int(reached[0]) + 1 if reached.size else 0


def _p_values(ordered: list[float], new: list[float], uniform: list[float]) -> Iterator[float]:
    """Conformal p-values; `ordered` are the sorted scores before, to which each is added."""
    for score, u in zip(new, uniform, strict=True):
        ordered.insert(bisect_right(ordered, score), score)
        above = len(ordered) - bisect_right(ordered, score)
        equal = len(ordered) - above - bisect_left(ordered, score)
        yield (above + u * equal) / len(ordered)


def _largest_gap(first: NDArray[np.bool_], ends: NDArray[np.bool_]) -> float:
    """Largest difference of the distribution functions of both samples, in sorted order."""
    n = int(first.sum())
    gap = np.cumsum(first) / n - np.cumsum(~first) / (first.size - n)
    return float(np.abs(gap[ends]).max())


def _scores(values: ArrayLike, name: str) -> Floats:
    """Scores, at least one, none of them NaN."""
    x = check_array(values, name).ravel()
    if not x.size or np.isnan(x).any():
        raise ValueError(f"{name} must be numbers, at least one, got {x[:3].tolist()}")
    return x
