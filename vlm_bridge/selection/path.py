"""A short path of candidate plans, chosen on tuning images, in order of decreasing safety."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

#: Largest tuning disagreements of the steps, as shares of epsilon.
RUNGS = (0.0, 0.125, 0.25, 0.5, 1.0)
#: Smaller steps before the first one of a path, as shares of its saving.
STAIRS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Step(Record):
    """A candidate on the path, as measured on the tuning images.

    Attributes:
        plan: the candidate.
        rate: its disagreement, by image.
        saving: share of the prefill that it skips; see `saving`.
    """

    plan: SkipPlan
    rate: float
    saving: float


def pareto_path(
    plans: Sequence[SkipPlan],
    rates: Sequence[float],
    savings: Sequence[float],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
) -> list[Step]:
    """For each rung, the candidate that saves most with a tuning rate of at most `rung * epsilon`.

    Each step saves more than the previous one and is less safe; rungs without a larger saving have
    no step. The order is fixed before any certification image is read, as fixed-sequence testing
    requires. `rates` are disagreements on tuning images, `epsilon` is the bound to certify.

    Where the tuning images are few, the largest plan that changes none of their answers may be far
    too large, and a sequence that begins with it ends with it. `stairs` are ascending shares of its
    saving: for each, the candidate of the lowest rung that saves most within that share is tested
    before it. More steps cost no error probability.

    Raises:
        BridgeError: lists of different length, or rungs or stairs that do not ascend.

    Source:
        Laufer-Goldshtein, Fisch, Barzilay and Jaakkola 2023, Efficiently controlling multiple
        risks with Pareto testing, ICLR, algorithm 1.

    Example:
        >>> a, b = SkipPlan("block", 4, layers=(3,)), SkipPlan("block", 4, layers=(2, 3))
        >>> [step.saving for step in pareto_path([a, b], [0.0, 0.01], [0.25, 0.5], epsilon=0.02)]
        [0.25, 0.5]
    """
    if not len(plans) == len(rates) == len(savings):
        raise BridgeError(
            f"{len(plans)} plans, {len(rates)} rates and {len(savings)} savings do not match"
        )
    path = pareto_places(rates, savings, epsilon=epsilon, rungs=rungs, stairs=stairs)
    return [Step(plans[i], rates[i], savings[i]) for i in path]


def pareto_places(
    rates: Sequence[float],
    savings: Sequence[float],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
) -> list[int]:
    """The indices of the candidates of `pareto_path`, in its order."""
    for name, shares in (("rungs", rungs), ("stairs", stairs)):
        if list(shares) != sorted(set(shares)):
            raise BridgeError(f"{name} must ascend, got {tuple(shares)}")

    def best_of(rung: float, most: float, before: list[int]) -> list[int]:
        """The largest saving up to `most` on a rung, if it is larger than those `before`."""
        allowed = [
            i
            for i, (rate, saved) in enumerate(zip(rates, savings, strict=True))
            if rate <= rung * epsilon and 0 < saved <= most
        ]
        best = max(allowed, key=lambda i: (savings[i], -rates[i]), default=None)
        new = best is not None and (not before or savings[best] > savings[before[-1]])
        return [best] if new and best is not None else []

    path: list[int] = []
    for rung in rungs:
        path += best_of(rung, math.inf, path)
    if not path or rates[path[0]] > rungs[0] * epsilon:
        return path
    first: list[int] = []
    for stair in stairs:
        first += best_of(rungs[0], stair * savings[path[0]], first)
    return [*first, *path]


def lazy_path(
    plans: Sequence[SkipPlan],
    savings: Sequence[float],
    measure: Callable[[SkipPlan], float],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
) -> list[Step]:
    """`pareto_path` that measures only candidates that can be on it, the largest savings first.

    A candidate on the lowest rung ends the search: every rung allows it, so smaller savings add no
    step but those of `stairs`, each of which ends in the same way. `measure` gives a plan's
    disagreement on tuning images, or, above the highest rung, any lower bound of it.
    """
    pareto_path([], [], [], epsilon=epsilon, rungs=rungs, stairs=stairs)  # refuses wrong ones
    rates: dict[int, float] = {}

    def largest(most: float) -> float:
        """The largest saving up to `most` of a candidate on the lowest rung; 0 without one."""
        least = 0.0
        for i in sorted(range(len(plans)), key=lambda i: -savings[i]):
            if savings[i] > most:
                continue
            if savings[i] <= 0 or savings[i] < least:
                break
            if i not in rates:
                rates[i] = measure(plans[i])
            if rates[i] <= rungs[0] * epsilon:
                least = savings[i]
        return least

    if whole := largest(math.inf):
        for stair in stairs:
            largest(stair * whole)
    measured = sorted(rates)
    return pareto_path(
        [plans[i] for i in measured],
        [rates[i] for i in measured],
        [savings[i] for i in measured],
        epsilon=epsilon,
        rungs=rungs,
        stairs=stairs,
    )
