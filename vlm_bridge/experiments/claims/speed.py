"""What a plan saves: counted and measured, in the prefill and for each generated token."""

from __future__ import annotations

from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.cost import measure_cost
from vlm_bridge.experiments.rule_benchmark import Settings, Speed, Store
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_json, write_json

#: Sequences in the timed batch.
BATCH_SIZE = 4


@dataclass(frozen=True)
class PlanSpeed(Record):
    """FLOPs and latency of a plan beside the full model's; ratios are skipped/full.

    Attributes:
        plan: what was timed.
        prefill: the pass over the prompt, vision tower included.
        token: one generated token with the cache; None where it was not measured.
        kv_ratio: bytes of the cache.
        peak_ratio: most bytes alive at once in the prefill.
    """

    plan: SkipPlan
    prefill: Speed
    token: Speed | None
    kv_ratio: float
    peak_ratio: float


def plan_speed(store: Store, plan: SkipPlan, settings: Settings, *, tokens: int) -> PlanSpeed:
    """Time a plan on the first test images, once; what is kept is not timed again.

    Args:
        store: of the model.
        plan: what to skip.
        settings: `pairs` says how often full and skipped are timed in turn.
        tokens: generated to time a token; 0 leaves that out.

    Raises:
        BridgeError: as `measure_cost`.
    """
    path = store.kept("speed-by-phase", [plan.hash(), settings.pairs, tokens])
    if path is not None and path.is_file():
        return PlanSpeed.from_json(read_json(path, "speed of a plan"))
    cost = measure_cost(
        store.vlm,
        store.splits["test"],
        plan,
        batch_size=BATCH_SIZE,
        pairs=settings.pairs,
        tokens=tokens,
    )
    phases = [
        None if one is None else Speed(one.flops_ratio, one.latency_ratio, cost.device)
        for one in (cost.prefill, cost.decode)
    ]
    assert phases[0] is not None
    found = PlanSpeed(plan, phases[0], phases[1], cost.kv_ratio, cost.peak_ratio)
    if path is not None:
        write_json(path, found.to_json())
    return found
