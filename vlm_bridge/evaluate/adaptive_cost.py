"""Prefill FLOPs of an adaptive plan, fallback included, in units of the full model's prefill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.evaluate.prefill_flops import PrefillFlops
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan

#: Questions on which FLOPs are counted: the first of the data, as many as this. They are a sample;
#: what other questions cost is not in any interval.
SAMPLED = 16


@dataclass(frozen=True)
class AdaptiveMeasure(Record):
    """An adaptive plan as measured on some images; every interval is by image.

    Attributes:
        plan: the plan; a threshold of -inf is the fixed plan.
        changed: share of answers that differ from the full model's.
        full: share of answers that the full model gave.
        cost: prefill FLOPs with the fallback, over the full model's; see `expected_cost`. The
            interval is about how many answers each gate and the full model give, at these `costs`.
        costs: what each gate adds, and the full model behind them, on a sample; see `gate_costs`.
    """

    plan: AdaptivePlan
    changed: Estimate
    full: Estimate
    cost: Estimate
    costs: tuple[float, ...]

    @classmethod
    def of(
        cls,
        plan: AdaptivePlan,
        changed: Sequence[float],
        gates: Sequence[int],
        clusters: Sequence[str],
        costs: Sequence[float],
        *,
        level: float = 0.95,
    ) -> AdaptiveMeasure:
        """Means by image over the answers: whether each changed, and the gate at which it stood."""
        by_image: Any = {"clusters": list(clusters), "level": level, "bounds": (0, 1)}
        full = [float(gate == len(plan.gates)) for gate in gates]
        return cls(
            plan,
            clustered_mean(changed, **by_image),
            clustered_mean(full, **by_image),
            expected_cost(costs, gates, clusters, level=level),
            tuple(costs),
        )


def sampled_flops(vlm: VLM, items: Sequence[Item], plans: Iterable[SkipPlan]) -> PrefillFlops:
    """FLOPs of the plans on the first questions of `items`, at most 16: a sample.

    What any chain of the plans costs follows from them. How they vary from question to question is
    in no interval.

    Raises:
        BridgeError: there are no items, or the model takes no images or recordings.
    """
    return PrefillFlops.count(vlm, items[:SAMPLED], plans)


def gate_costs(vlm: VLM, items: Sequence[Item], plan: AdaptivePlan) -> tuple[float, ...]:
    """What each gate adds, and at last the full model; see `PrefillFlops.costs`."""
    return sampled_flops(vlm, items, plan.plans).costs(plan.gates)


def expected_cost(
    costs: Sequence[float], gates: Sequence[int], clusters: Sequence[str], *, level: float = 0.95
) -> Estimate:
    """Mean over images of what their answers cost, over what the full model's cost.

        c = mean of costs[0] + ... + costs[g],  g the gate at which an answer stood

    The interval is about the share of answers at each gate and by the full model; it takes `costs`
    as given, which are counted on a sample.

    Args:
        costs: of every gate, and of the full model behind them, as `gate_costs` gives them.
        gates: of every answer, from 0; the number of gates where the full model gave it.
        clusters: the image of every answer.
        level: confidence of the betting interval.

    Example:
        >>> expected_cost([0.6, 0.4], [0, 0, 0, 1], ["a", "b", "c", "d"]).value
        0.7
    """
    spent = list(accumulate(costs))
    bounds = (spent[0], spent[-1])
    values = [min(max(spent[gate], bounds[0]), bounds[1]) for gate in gates]
    return clustered_mean(values, list(clusters), bounds=bounds, level=level)
