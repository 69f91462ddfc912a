"""Published early exits in the terms of adaptive plans: CALM and CATs, decided per answer.

Both let the whole decoder end at one of several depths: the states go through the final norm and
the head, which is a `block` plan that leaves out all later layers. An answer of an exit stands if
its softmax confidence is above one threshold that all exits share.

What differs from the publications: they decide for every token (CALM) or one classification (CATs)
and go on from the states of the exit; here the unit is the whole answer, judged by the least
confidence of its tokens, and the next exit answers anew behind the layers that both share. They
train the model for its exits, and CATs a classifier that tells consistent exits; here the model is
as it is, and the confidence of both is the probability of the likeliest token minus that of the
second, CALM's softmax response. CALM's threshold may fall with the place of a token; here it is
constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.clustered import cluster_codes
from theory.certificates.families import learn_then_test
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.adaptive import MAX_GATES, AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection.sureness import KnownAnswers

#: Thresholds that CALM tests, the safest first: dense near 1, where exits that a model was not
#: trained for are confident and wrong.
GRID = (1.0, *(1.0 - 2.0**-power for power in range(20, 1, -1)), 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def exit_plans(n_layers: int, exits: int) -> list[SkipPlan]:
    """Exits of the decoder, the earliest first, evenly spread; all depths if there are not more.

    Raises:
        BridgeError: a number of exits outside 1 to 8, or a decoder of one layer.

    Example:
        >>> [plan.layers for plan in exit_plans(4, 2)]
        [(1, 2, 3), (3,)]
    """
    number: Any = exits
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_GATES:
        raise BridgeError(f"exits are a number from 1 to {MAX_GATES}, got {shown(exits)}")
    if n_layers < 2:
        raise BridgeError(f"a decoder of {n_layers} layers has no exit before its last layer")
    depths = sorted({round(n_layers * place / (exits + 1)) for place in range(1, exits + 1)} - {0})
    everywhere = [depth for depth in depths if depth < n_layers]
    return [
        SkipPlan("block", n_layers, layers=tuple(range(depth, n_layers))) for depth in everywhere
    ]


def exit_chain(exits: Sequence[SkipPlan], threshold: float) -> AdaptivePlan:
    """The exits in their order, all behind one threshold of confidence."""
    return AdaptivePlan(tuple(Gate(plan, "confidence", threshold) for plan in exits))


def calm_threshold(
    known: KnownAnswers,
    exits: Sequence[SkipPlan],
    *,
    epsilon: float,
    delta: float,
    grid: Sequence[float] = GRID,
) -> float | None:
    """The lowest threshold with at most epsilon changed answers, with probability 1 - delta.

    Learn then Test in a fixed sequence: for thresholds from high to low, a p-value of "at least
    epsilon of the answers change" (Hoeffding-Bentkus) on the calibration images, up to the first
    that is above delta. None if the highest fails.

    Args:
        known: answers to calibration questions under all exits, which had no part in choosing them.
        exits: the chain, as `exit_plans` gives it.
        epsilon: largest share of changed answers.
        delta: probability that the threshold changes more, over the draw of the images.
        grid: thresholds that descend, chosen without the images.

    Raises:
        BridgeError: a grid that does not descend, epsilon or delta outside (0, 1).

    Source:
        Schuster et al. 2022, Confident adaptive language modeling, arXiv 2207.07061.
    """
    if not grid or list(grid) != sorted(set(grid), reverse=True):
        raise BridgeError(f"the grid of thresholds must descend, got {tuple(grid)}")
    changed = [known.replay(exit_chain(exits, threshold))[0] for threshold in grid]
    try:
        selection = learn_then_test(
            *(changed, list(known.clusters)),
            quantity="disagreement",
            epsilon=epsilon,
            delta=delta,
            control="fixed-sequence",
        )
    except ValueError as error:
        raise BridgeError(str(error)) from None
    return grid[max(selection.certified)] if selection.certified else None


def cats_threshold(known: KnownAnswers, exits: Sequence[SkipPlan], *, epsilon: float) -> float:
    """The threshold above which no exit of a new image changes its answer, but with share epsilon.

        m_i = largest confidence of an exit that changes an answer about image i; -inf if none does
        t   = the ceil((1 - epsilon) (n + 1))-th smallest of m_1, ..., m_n; inf if there is none

    If images are exchangeable, an answer to a new one changes with probability at most epsilon:
    over the draw of the calibration images and of the new one together, which is weaker than a
    certificate, that holds for 1 - delta of the draws of the calibration images.

    Args:
        known: answers to calibration questions under all exits, which had no part in choosing them.
        exits: the chain, as `exit_plans` gives it.
        epsilon: largest share of images with a changed answer.

    Raises:
        BridgeError: epsilon outside (0, 1).

    Source:
        Schuster, Fisch, Jaakkola and Barzilay 2021, Consistent accelerated inference via confident
        adaptive transformers, arXiv 2104.08803, the shared calibration.
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    scores = _largest_wrong(known, exits)
    place = math.ceil((1 - epsilon) * (len(scores) + 1))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def _largest_wrong(known: KnownAnswers, exits: Sequence[SkipPlan]) -> NDArray[np.float64]:
    """(images,) largest confidence of an exit that changes an answer."""
    codes = cluster_codes(known.clusters)
    scores = np.full(int(codes.max()) + 1, -np.inf)
    for plan in exits:
        sure = known.sureness(Gate(plan, "confidence"))
        np.maximum.at(scores, codes, np.where(sure.changed > 0, sure.signals, -np.inf))
    return scores
