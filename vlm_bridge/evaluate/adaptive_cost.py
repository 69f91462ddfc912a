"""Prefill FLOPs of an adaptive plan, fallback included, in units of the full model's prefill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.cost import count_flops
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import AdaptiveRun
from vlm_bridge.model.prompts import Batch, check_takes, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan

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


def gate_costs(vlm: VLM, items: Sequence[Item], plan: AdaptivePlan) -> tuple[float, ...]:
    """FLOPs that each gate adds, and at last the full model, over those of a full prefill.

        costs[g] = sum of FLOPs that gate g adds / sum of FLOPs of the full model

    over the first questions of `items`, at most 16, each alone and so without padding: a sample,
    whose spread is in no interval. Counted as if no answer stood: what a gate shares with those
    before it counts once, at the first of them. Encoders count, tokens behind the first of an
    answer do not.

    Raises:
        BridgeError: there are no items, or the model takes no images or recordings.
    """
    sample = items[:SAMPLED]
    check_takes(vlm, sample)
    if not sample:
        raise BridgeError("there are no items on which to count FLOPs")
    totals, whole = [0] * (len(plan.gates) + 1), 0
    for place in range(len(sample)):
        batch = collate(vlm, sample, [place])
        if not place:  # the first block of a plan may try its layers on noise
            for step in _steps(vlm, batch, plan):
                step()
        whole += count_flops(_steps(vlm, batch, plan)[-1])
        for number, step in enumerate(_steps(vlm, batch, plan)):
            totals[number] += count_flops(step)
    return tuple(total / whole for total in totals)


def _steps(vlm: VLM, batch: Batch, plan: AdaptivePlan) -> list[Callable[[], object]]:
    """Every gate and the full model on a run that has not begun, to be called in order."""
    run = AdaptiveRun(vlm, batch, plan, max_new_tokens=1)
    return [*(partial(run.at_gate, gate) for gate in plan.gates), partial(run.ask, None)]


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
