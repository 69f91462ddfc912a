"""Time of the prefill with and without a plan, in alternating pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlm_bridge.cost import prefill_pairs
from vlm_bridge.data import Item
from vlm_bridge.experiments.claims.results import Latency
from vlm_bridge.experiments.rule_benchmark.store import digest
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_or_make
from vlm_bridge.runtime.machine import machine

_TIMED_BATCH = 4  # sequences in the batch that times a plan


def measure_latency(
    vlm: VLM, items: Sequence[Item], plan: SkipPlan, *, pairs: int, folder: Path
) -> Latency:
    """Time `pairs` of full and skipped prefills of the first items; kept in `folder`."""

    def measure() -> Latency:
        prefill, ratios = prefill_pairs(vlm, items, plan, batch_size=_TIMED_BATCH, pairs=pairs)
        where = machine()
        return Latency(plan, prefill, ratios, f"{where['device']} ({where['threads']} threads)")

    path = folder / f"latency-{digest([plan.hash(), pairs])}.json"
    return read_or_make(path, Latency, measure)
