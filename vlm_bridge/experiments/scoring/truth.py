"""Measured effect of skipping each unit, by image, on images that no rule has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from estimators.clustered import cluster_means
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import unit_place

SAFE, UNDETERMINED, HARMFUL = -1, 0, 1  # verdicts on a unit
QUANTITIES = ("disagreement", "drop")


@dataclass(frozen=True)
class Truth:
    """Disagreement and accuracy drop per image and unit (a single layer or depth of a mode).

    Attributes:
        disagreement: (n_images, n_units) share of an image's questions with a changed answer.
        drop: (n_images, n_units) mean accuracy lost, in [-1, 1]; None unless every question
            has a label.
    """

    plans: tuple[SkipPlan, ...]
    disagreement: NDArray[np.float64]
    drop: NDArray[np.float64] | None
    images: tuple[str, ...]

    @classmethod
    def of(cls, plans: Sequence[SkipPlan], outcomes: Sequence[Outcomes]) -> Truth:
        """From the outcomes of every plan on the same questions."""
        if not plans or len(plans) != len(outcomes):
            raise BridgeError(f"{len(plans)} plans need as many outcomes, got {len(outcomes)}")
        clusters = outcomes[0].clusters
        if any(each.items != outcomes[0].items for each in outcomes[1:]):
            raise BridgeError("the outcomes of the plans are about different questions")

        def by_image(columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
            return np.column_stack([cluster_means(column, clusters)[0] for column in columns])

        whole = [each for each in outcomes if not each.n_unlabelled]
        drops = [drop for each in whole if (drop := each.drop) is not None]
        lost = by_image(drops) if len(drops) == len(outcomes) else None
        changed, images = by_image([each.disagree for each in outcomes]), dict.fromkeys(clusters)
        return cls(tuple(plans), changed, lost, tuple(images))

    @property
    def places(self) -> NDArray[np.float64]:
        """(n_units,) depth of each unit, as `unit_place`."""
        return np.array([unit_place(plan) for plan in self.plans])

    def values(self, quantity: str) -> NDArray[np.float64]:
        """(n_images, n_units) of one quantity; a BridgeError for a drop without labels."""
        if quantity not in QUANTITIES:
            raise BridgeError(f"unknown quantity '{quantity}'; choose from {', '.join(QUANTITIES)}")
        values = self.disagreement if quantity == "disagreement" else self.drop
        if values is None:
            raise BridgeError("no drop was measured: some questions have no answer")
        return values


def intervals(
    values: NDArray[np.float64], quantity: str, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends (..., n_units) of the interval of the mean of values (..., n_images, n_units).

    Disagreement: Clopper-Pearson with x the sum of the images' means, exact if each image has one
    question. Drop: Student's t over images. Both are two-sided.
    """
    n, mean = values.shape[-2], values.mean(axis=-2)
    tail = (1.0 - level) / 2.0
    if quantity == "drop":
        half = float(stdtrit(n - 1, 1.0 - tail)) * values.std(axis=-2, ddof=1) / n**0.5
        return np.asarray(mean - half), np.asarray(mean + half)
    x = n * mean
    low = np.where(x > 0, betaincinv(np.maximum(x, 1e-9), n - x + 1, tail), 0.0)
    high = np.where(x < n, betaincinv(x + 1, np.maximum(n - x, 1e-9), 1.0 - tail), 1.0)
    return np.asarray(low), np.asarray(high)


def verdicts(
    values: NDArray[np.float64], quantity: str, epsilon: float, level: float
) -> NDArray[np.int64]:
    """(..., n_units) SAFE, UNDETERMINED or HARMFUL: interval below, across or above epsilon."""
    low, high = intervals(values, quantity, level)
    return np.where(high <= epsilon, SAFE, np.where(low > epsilon, HARMFUL, UNDETERMINED))


def least_images(epsilon: float, level: float = 0.95) -> int:
    """Smallest number of images that can show a unit to be safe, if no answer changes.

    The smallest n with `1 - ((1 - level) / 2)^(1/n) <= epsilon`.

    Example:
        >>> least_images(0.05)
        72
    """
    return math.ceil(math.log((1.0 - level) / 2.0) / math.log1p(-epsilon))
