"""What a plan saves: FLOPs counted and latency measured, skipped over full, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from estimators import Estimate
from vlm_bridge.data import Item
from vlm_bridge.plan import SkipPlan
from vlm_bridge.progress import track
from vlm_bridge.prompts import batches
from vlm_bridge.skip import skipping
from vlm_bridge.vlm import VLM


@dataclass(frozen=True)
class Cost:
    """Prefill cost of a plan on one batch, skipped and full.

    Attributes:
        flops_full: floating-point operations of the full prefill, vision tower included.
        flops_skipped: of the skipped prefill.
        seconds_full: median latency of the full prefill.
        seconds_skipped: of the skipped prefill.
        latency_ratio: median of the paired ratios, with its interval.
        batch: sequences in the batch.
        length: tokens of the longest.
        device: where it ran, and on how many threads.
    """

    flops_full: int
    flops_skipped: int
    seconds_full: float
    seconds_skipped: float
    latency_ratio: Estimate
    batch: int
    length: int
    device: str

    @property
    def flops_ratio(self) -> float:
        """FLOPs skipped over full."""
        return self.flops_skipped / self.flops_full

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data; ratios are skipped/full."""
        body = {**self.__dict__, "latency_ratio": self.latency_ratio.to_json()}
        return {"type": "Cost", "flops_ratio": self.flops_ratio, **body}


def measure_cost(
    vlm: VLM, plan: SkipPlan, items: Sequence[Item], *, size: int = 8, pairs: int = 15
) -> Cost:
    """Count and time the prefill of the first `size` items with and without the plan.

    Full and skipped alternate, so that a machine that drifts slows both; two runs of each
    warm up. The interval of the median ratio is by order statistics.

    Raises:
        BridgeError: the plan does not fit the model, or there are no items.
    """
    plan.fit(vlm.layout.n_layers)
    inputs = next(batches(vlm, items[:size], size=size)).inputs

    def prefill() -> None:
        with torch.no_grad():
            vlm.model(**inputs, use_cache=True, logits_to_keep=1)

    flops_full = count_flops(prefill)
    with skipping(vlm, plan):
        flops_skipped = count_flops(prefill)
    full, skipped = [], []
    with track("latency, full and skipped in turn", pairs + 2) as advance:
        for _ in range(pairs + 2):
            full.append(_timed(prefill, vlm.device))
            with skipping(vlm, plan):
                skipped.append(_timed(prefill, vlm.device))
            advance(1)
    full, skipped = full[2:], skipped[2:]
    return Cost(
        flops_full=flops_full,
        flops_skipped=flops_skipped,
        seconds_full=statistics.median(full),
        seconds_skipped=statistics.median(skipped),
        latency_ratio=_median([s / f for s, f in zip(skipped, full, strict=True)]),
        batch=len(inputs["input_ids"]),
        length=inputs["input_ids"].shape[1],
        device=f"{vlm.device} ({torch.get_num_threads()} threads)",
    )


def count_flops(run: Callable[[], None]) -> int:
    """Floating-point operations of matrix products, convolutions and attention in `run`."""
    sdpa_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={sdpa_on_cpu: _sdpa_flops}) as counter:
        run()
    return int(counter.get_total_flops())


def _sdpa_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    # torch's counter knows every attention kernel but the CPU's, which it counts as zero.
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def _timed(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _median(values: Sequence[float], level: float = 0.95) -> Estimate:
    ordered = sorted(values)
    n = len(ordered)
    low = max(0, int(stats.binom.ppf((1 - level) / 2, n, 0.5)) - 1)
    return Estimate(
        value=statistics.median(ordered),
        interval=(ordered[low], ordered[n - 1 - low]),
        level=level,
        n=n,
        d=1,
        unit="1",
        method="median of paired ratios, interval by order statistics",
        reliable=n >= 6,
        reason="" if n >= 6 else f"{n} pairs cannot give a {level:.0%} interval",
    )
