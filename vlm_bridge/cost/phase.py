"""FLOPs and measured latency of one phase of answering: the prefill, or a generated token."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy import stats

from estimators import Estimate
from estimators.record import Record


@dataclass(frozen=True)
class PhaseCost(Record):
    """FLOPs and latency of one phase, full and skipped. Ratios are skipped/full.

    Attributes:
        flops_full, flops_skipped: floating-point operations.
        seconds_full, seconds_skipped: median latency.
        latency_ratio: median of the paired ratios, with its interval.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("flops_ratio", "efficiency")

    flops_full: int
    flops_skipped: int
    seconds_full: float
    seconds_skipped: float
    latency_ratio: Estimate

    @classmethod
    def of(
        cls, flops: tuple[int, int], full: Sequence[float], skipped: Sequence[float]
    ) -> PhaseCost:
        """The cost from (full, skipped) FLOPs and paired seconds."""
        ratio = median_estimate([s / f for s, f in zip(skipped, full, strict=True)])
        return cls(*flops, statistics.median(full), statistics.median(skipped), ratio)

    @property
    def flops_ratio(self) -> float:
        """FLOPs skipped over full."""
        return self.flops_skipped / self.flops_full

    @property
    def efficiency(self) -> float:
        """`flops_ratio / latency_ratio`: 1 if latency falls as much as FLOPs."""
        return self.flops_ratio / self.latency_ratio.value


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that `run` takes; on a CUDA device, between two events on its stream."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(device):
            begin.record()
            run()
            end.record()
            end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Median of independent values with the interval of their order statistics.

    Example:
        >>> median_estimate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).interval
        (1.0, 7.0)
    """
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
