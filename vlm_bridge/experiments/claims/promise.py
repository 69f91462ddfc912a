"""A promise that can fail: how often a plan just above epsilon is certified all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from estimators.record import Record
from vlm_bridge.experiments.rule_benchmark import ErrorRateCheck, check_error_rate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.selection import Step

if TYPE_CHECKING:
    from vlm_bridge.experiments.claims.subject import AnswerBook

#: How far above epsilon the plan's rate may lie, and plans that are tried to find one.
ABOVE, TRIED = 0.02, 8


@dataclass(frozen=True)
class Promise(Record):
    """Certificates of a plan whose true rate lies above epsilon, over resampled images.

    Attributes:
        plan: the plan; None if none of those tried lies within `ABOVE` of epsilon.
        rate: share of all certification images whose answer it changes: the truth of the check.
        check: wrong certificates; None without a plan.
        tried: number of plans that were run to find one.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("kept",)

    plan: SkipPlan | None
    rate: float | None
    check: ErrorRateCheck | None
    tried: int

    @property
    def kept(self) -> bool | None:
        """Whether wrong certificates are at most delta plus three standard errors, or None."""
        if self.check is None:
            return None
        return self.check.rate <= self.check.delta + 3 * self.check.error


def check_promise(
    certification: AnswerBook,
    known: Iterable[SkipPlan],
    likely: Sequence[tuple[float, SkipPlan]],
    *,
    epsilon: float,
    delta: float,
    resamples: int,
    seed: int,
) -> Promise:
    """Find a plan just above epsilon, and resample the certification images.

    Args:
        certification: the images, which are the population of the resamplings.
        known: plans that were run on them already.
        likely: rate on test images and plan; those nearest to the middle of the window are run
            until one lies in it, at most `TRIED`.
        epsilon: of the certificates.
        delta: their error probability.
        resamples: number of resamplings.
        seed: of the resamplings.
    """
    middle = epsilon + ABOVE / 2
    near = [plan for _, plan in sorted(likely, key=lambda pair: abs(pair[0] - middle))][:TRIED]
    already = list(dict.fromkeys(known))
    for number, plan in enumerate(dict.fromkeys([*already, *near])):
        rate = float(certification.changed(plan).mean())
        if epsilon < rate <= epsilon + ABOVE:
            check, _ = check_error_rate(
                [Step(plan, rate, 1.0)],
                [certification.outcomes(plan)],
                epsilon=epsilon,
                delta=delta,
                resamples=resamples,
                seed=seed,
            )
            return Promise(plan, rate, check, max(0, number + 1 - len(already)))
    return Promise(None, None, None, len(near))
