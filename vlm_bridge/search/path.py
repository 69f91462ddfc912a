"""A short path through many candidates, chosen on tuning images, the safest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan import SkipPlan

#: Tuning disagreements at which a step is looked for, as shares of epsilon.
RUNGS = (0.0, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Step:
    """A candidate on the path, with what tuning images said of it.

    Attributes:
        plan: the candidate.
        rate: its disagreement on the tuning images, by image.
        saving: share of the prefill it leaves out; see `saving`.
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

    Steps save more and more and are less and less safe; a rung that adds nothing is left out,
    and so is a candidate that saves nothing. The order is fixed before a certification image
    is seen, which is what testing in sequence needs.

    Args:
        plans: candidates of any modes.
        rates: their disagreement on tuning images.
        savings: how much they leave out.
        epsilon: what will be promised.
        rungs: shares of epsilon, ascending.

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
    every = [Step(*one) for one in zip(plans, rates, savings, strict=True)]
    path: list[Step] = []
    for rung in rungs:
        allowed = [step for step in every if step.rate <= rung * epsilon and step.saving > 0]
        best = max(allowed, key=lambda step: (step.saving, -step.rate), default=None)
        if best is not None and (not path or best.saving > path[-1].saving):
            path.append(best)
    return path
