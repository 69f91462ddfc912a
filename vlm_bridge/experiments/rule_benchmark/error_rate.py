"""Is a certified plan as safe as promised, when certification images are drawn again and again?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate
from estimators.record import Record
from theory import Certificate, certify_mean
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection import Step, certify_path


@dataclass(frozen=True)
class ErrorRateCheck(Record):
    """How often a promise was broken over resamplings of the certification images.

    Attributes:
        resamples: draws of whole images, with replacement, from the certification images; their
            mean is the truth of every draw.
        broken: draws whose certified plan is worse than epsilon on all of them.
        certified: draws that certified a plan at all.
        delta: share that may be broken.
        worst: disagreement of the worst step on the whole pool; where it is at most epsilon no
            promise can be broken, and `broken` says nothing.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("rate", "error")

    resamples: int
    broken: int
    certified: int
    delta: float
    worst: float

    @property
    def rate(self) -> float:
        """Share of draws that broke their promise."""
        return self.broken / self.resamples

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of `rate` where the true share is delta."""
        return math.sqrt(self.delta * (1.0 - self.delta) / self.resamples)


def check_error_rate(
    path: Sequence[Step],
    outcomes: Sequence[Outcomes],
    *,
    epsilon: float,
    delta: float,
    resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[ErrorRateCheck, Estimate]:
    """Certify the path on resampled certification images, many times.

    Each draw takes as many whole images as there are, with replacement, and tests the path in
    sequence as `certify_path` does. The stored outcomes are the pool: nothing is run.

    Args:
        path: the steps.
        outcomes: of every step, on the same questions.
        epsilon: what is promised.
        delta: probability with which a promise may be wrong.
        resamples: draws.
        seed: of the draws.
        level: of the interval of the saving.

    Returns:
        The count of broken promises, and the saving of the plan certified on the images as they
        are (0 where none is) with its percentile interval over the draws.

    Raises:
        BridgeError: no steps, or not as many outcomes.
    """
    if not path or len(path) != len(outcomes):
        raise BridgeError(f"{len(path)} steps need as many outcomes, got {len(outcomes)}")
    at = {step.plan: number for number, step in enumerate(path)}
    rows, starts = _by_image(outcomes[0].clusters)
    values = np.array([one.disagree for one in outcomes])[:, rows]
    counts = np.diff(starts)
    means = np.add.reduceat(values, starts[:-1], axis=1) / counts
    truth = means.mean(axis=1)
    n = len(counts)
    empty = SkipPlan("block", path[0].plan.n_layers)

    def saved(images: NDArray[np.int64]) -> tuple[float, bool]:
        """What is saved by the plan certified on these images, and whether that was wrong."""
        chosen = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in images])
        labels = np.repeat(np.arange(len(images)), counts[images]).tolist()

        def certify_one(plan: SkipPlan) -> Certificate:
            return certify_mean(
                values[at[plan], chosen],
                labels,
                quantity="disagreement",
                epsilon=epsilon,
                delta=delta,
            )

        found = certify_path(path, certify_one, empty=empty)
        if found.certificate is None:
            return 0.0, False
        step = at[found.plan]
        return path[step].saving, bool(truth[step] > epsilon)

    rng = np.random.default_rng(seed)
    draws = [saved(rng.integers(n, size=n)) for _ in range(resamples)]
    value = saved(np.arange(n))[0]
    savings = np.array([one for one, _ in draws])
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(savings, [tail, 100.0 - tail])
    promises = ErrorRateCheck(
        resamples=resamples,
        broken=sum(wrong for _, wrong in draws),
        certified=int((savings > 0).sum()),
        delta=delta,
        worst=float(truth.max()),
    )
    estimate = Estimate(
        value=value,
        interval=(min(float(low), value), max(float(high), value)),
        level=level,
        n=n,
        method="saving of the certified plan, bootstrap over certification images",
    )
    return promises, estimate


def _by_image(clusters: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows sorted by image, and where each image's rows begin, with the end behind the last."""
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    rows = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    return rows.astype(np.int64), starts.astype(np.int64)
