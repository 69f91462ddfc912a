"""A short path of candidate plans, chosen on tuning images, in order of decreasing safety."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

#: Largest tuning disagreements of the steps, as shares of epsilon.
RUNGS = (0.0, 0.125, 0.25, 0.5, 1.0)


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
) -> list[Step]:
    """For each rung, the candidate that saves most with a tuning rate of at most `rung * epsilon`.

    Each step saves more than the previous one and is less safe; rungs without a larger saving have
    no step. The order is fixed before any certification image is read, as fixed-sequence testing
    requires. `rates` are disagreements on tuning images, `epsilon` is the bound to certify.

    Raises:
        BridgeError: lists of different length, or rungs that do not ascend.

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
    if list(rungs) != sorted(set(rungs)):
        raise BridgeError(f"rungs must ascend, got {tuple(rungs)}")
    steps = [Step(*columns) for columns in zip(plans, rates, savings, strict=True)]
    path: list[Step] = []
    for rung in rungs:
        allowed = [step for step in steps if step.rate <= rung * epsilon and step.saving > 0]
        best = max(allowed, key=lambda step: (step.saving, -step.rate), default=None)
        if best is not None and (not path or best.saving > path[-1].saving):
            path.append(best)
    return path


def lazy_path(
    plans: Sequence[SkipPlan],
    savings: Sequence[float],
    measure: Callable[[SkipPlan], float],
    *,
    epsilon: float,
    rungs: Sequence[float] = RUNGS,
) -> list[Step]:
    """`pareto_path` that measures only candidates that can be on it, the largest savings first.

    A candidate on the lowest rung ends the search: every rung allows it, so smaller savings add no
    step. `measure` gives a plan's disagreement on tuning images, or, above the highest rung, any
    lower bound of it.
    """
    pareto_path([], [], [], epsilon=epsilon, rungs=rungs)  # refuses rungs before any measurement
    rates: dict[int, float] = {}
    least = 0.0
    for i in sorted(range(len(plans)), key=lambda i: -savings[i]):
        if savings[i] <= 0 or savings[i] < least:
            break
        rates[i] = measure(plans[i])
        if rates[i] <= rungs[0] * epsilon:
            least = savings[i]
    measured = sorted(rates)
    return pareto_path(
        [plans[i] for i in measured],
        [rates[i] for i in measured],
        [savings[i] for i in measured],
        epsilon=epsilon,
        rungs=rungs,
    )
