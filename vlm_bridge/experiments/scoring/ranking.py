"""Figures of merit of a ranking; a low score means safe."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.experiments.scoring.truth import HARMFUL, SAFE


def auc(score: NDArray[np.float64], verdict: NDArray[np.int64]) -> float:
    """Probability that a harmful unit scores above a safe one; ties count one half.

    `score` and `verdict` are (n_units,). Undetermined units are left out; NaN without a safe or
    without a harmful unit.

    Source:
        Mann-Whitney form: Hanley and McNeil 1982, Radiology 143.

    Example:
        >>> auc(np.array([0.1, 0.2, 0.9]), np.array([SAFE, HARMFUL, HARMFUL]))
        1.0
    """
    safe, harmful = score[verdict == SAFE], score[verdict == HARMFUL]
    if not safe.size or not harmful.size:
        return math.nan
    gap = harmful[:, None] - safe[None, :]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())


def false_safe(score: NDArray[np.float64], verdict: NDArray[np.int64]) -> float:
    """Share of harmful units among the k lowest scores, where k units are safe.

    Undetermined units are left out; a perfect ranking has 0. Units tied at the cut count in
    proportion. NaN without a safe unit.

    Example:
        >>> false_safe(np.array([0.1, 0.2, 0.9]), np.array([HARMFUL, SAFE, SAFE]))
        0.5
    """
    determined = (verdict == SAFE) | (verdict == HARMFUL)
    score, harmful = score[determined], (verdict[determined] == HARMFUL).astype(np.float64)
    k = int(determined.sum() - harmful.sum())
    if not k:
        return math.nan
    cut = np.sort(score)[k - 1]
    below, tied = score < cut, score == cut
    return float((harmful[below].sum() + (k - below.sum()) * harmful[tied].mean()) / k)
