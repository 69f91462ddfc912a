"""Figures of merit of a ranking; a low score says safe."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.experiments.scoring.truth import HARMFUL, SAFE


def auc(score: NDArray[np.float64], verdict: NDArray[np.int64]) -> float:
    """Probability that a harmful unit scores above a safe one; ties count half.

    Undetermined units are left out; NaN where no unit, or every one, is harmful.

    Args:
        score: (n_units,) the lower, the safer.
        verdict: (n_units,) SAFE, UNDETERMINED or HARMFUL.

    Source:
        The Mann-Whitney form: Hanley and McNeil 1982, Radiology 143.

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
    """Share of harmful units among those the rule would skip, as many as are safe.

    The rule skips its lowest scores among the determined units, k of them where k are safe; a
    perfect ranking gets 0. Units tied at the cut count by their share. NaN where none is safe.

    Example:
        >>> false_safe(np.array([0.1, 0.2, 0.9]), np.array([HARMFUL, SAFE, SAFE]))
        0.5
    """
    known = (verdict == SAFE) | (verdict == HARMFUL)
    score, harmful = score[known], (verdict[known] == HARMFUL).astype(np.float64)
    k = int(known.sum() - harmful.sum())
    if not k:
        return math.nan
    cut = np.sort(score)[k - 1]
    below, tied = score < cut, score == cut
    return float((harmful[below].sum() + (k - below.sum()) * harmful[tied].mean()) / k)
