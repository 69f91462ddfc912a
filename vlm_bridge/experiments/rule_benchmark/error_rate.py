"""Error rate of certificates, measured by resampling the certification images."""

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
    """Wrong certificates over resamplings of the certification images.

    Attributes:
        resamples: bootstrap samples of whole certification images; the mean over all images is the
            true disagreement.
        wrong: samples whose certified plan has a true disagreement above epsilon.
        certified: samples that certified a plan.
        delta: largest allowed share of wrong certificates.
        worst: true disagreement of the worst step; if at most epsilon, `wrong` is uninformative.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("rate", "error")

    resamples: int
    wrong: int
    certified: int
    delta: float
    worst: float

    @property
    def rate(self) -> float:
        """Share of samples with a wrong certificate."""
        return self.wrong / self.resamples

    @property
    def error(self) -> float:
        """Monte Carlo standard error of `rate` if the true share is delta."""
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
    """Certify the path on bootstrap samples of the certification images.

    Each sample draws as many whole images as there are, with replacement, and tests the path in
    sequence as `certify_path` does, from the stored outcomes of its steps on the same questions.

    Returns:
        The check, and the saving of the plan certified on the original images (0 without a plan)
        with its percentile interval over the samples.
    """
    if not path or len(path) != len(outcomes):
        raise BridgeError(f"{len(path)} steps need as many outcomes, got {len(outcomes)}")
    number = {step.plan: i for i, step in enumerate(path)}
    _, codes, counts = np.unique(outcomes[0].clusters, return_inverse=True, return_counts=True)
    by_image, starts = np.argsort(codes, kind="stable"), np.cumsum(counts) - counts
    values = np.array([each.disagree for each in outcomes])[:, by_image]  # (n_steps, n_questions)
    truth = (np.add.reduceat(values, starts, axis=1) / counts).mean(axis=1)
    n, empty = len(counts), SkipPlan("block", path[0].plan.n_layers)

    def certified_step(images: NDArray[np.int64]) -> int | None:
        """Index of the step that is certified on these images."""
        columns = np.concatenate([starts[i] + np.arange(counts[i]) for i in images])
        labels = np.repeat(np.arange(len(images)), counts[images]).tolist()

        def certify_one(plan: SkipPlan) -> Certificate:
            rows, goal = values[number[plan], columns], "disagreement"
            return certify_mean(rows, labels, quantity=goal, epsilon=epsilon, delta=delta)

        certified = certify_path(path, certify_one, empty=empty)
        return None if certified.certificate is None else number[certified.plan]

    def saving(step: int | None) -> float:
        return 0.0 if step is None else path[step].saving

    rng = np.random.default_rng(seed)
    steps = [certified_step(rng.integers(n, size=n)) for _ in range(resamples)]
    savings = np.array([saving(step) for step in steps])
    value = saving(certified_step(np.arange(n)))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(savings, [tail, 100.0 - tail])
    check = ErrorRateCheck(
        resamples=resamples,
        wrong=sum(step is not None and bool(truth[step] > epsilon) for step in steps),
        certified=int((savings > 0).sum()),
        delta=delta,
        worst=float(truth.max()),
    )
    interval = (min(float(low), value), max(float(high), value))
    method = "saving of the certified plan, bootstrap over certification images"
    return check, Estimate(value=value, interval=interval, level=level, n=n, method=method)
