"""What a run on a large model needs, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.reproduce.published import Published

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Activations, cache and allocator beside the weights, as a share of them.
_BESIDE = 0.2


@dataclass(frozen=True)
class Needs(Record):
    """An estimate from the size of the model, not a measurement.

    Attributes:
        gib: device memory in GiB: weights, and a fifth more for all that lies beside them.
        download_gib: size of the weights in GiB.
        forward_cost: full forward passes over one image, skipped passes counted as full ones.
        pflop: `2 * parameters * tokens` for each pass, in PFLOP.
        hours: at `tflops` TFLOP/s, reached throughput, not peak.
        tflops: what was assumed.
    """

    gib: float
    download_gib: float
    forward_cost: int
    pflop: float
    hours: float
    tflops: float

    def __str__(self) -> str:
        return (
            f"about {self.gib:.0f} GiB of device memory, {self.download_gib:.0f} GiB to download, "
            f"{self.forward_cost:,} passes ({self.pflop:,.0f} PFLOP): {self.hours:.1f} h at "
            f"{self.tflops:g} TFLOP/s"
        )


def needs_of(
    model: Published, *, forward_cost: int, dtype: str = "bfloat16", tflops: float = 100.0
) -> Needs:
    """Memory and time for so many forward passes of one image each.

    Args:
        model: which one.
        forward_cost: forward passes of the whole run.
        dtype: of the weights: `float32`, `bfloat16` or `float16`.
        tflops: throughput that the device reaches. About 100 for one A100 in bfloat16.

    Raises:
        BridgeError: an unknown dtype, or numbers that are not positive.

    Example:
        >>> from vlm_bridge.experiments.reproduce.published import find_published
        >>> round(needs_of(find_published("llava-1.5-7b"), forward_cost=1000).download_gib)
        13
    """
    if dtype not in _BYTES:
        raise BridgeError(f"unknown dtype '{dtype}'; choose from {', '.join(_BYTES)}")
    if forward_cost < 1 or not tflops > 0:
        raise BridgeError(
            f"forward_cost and tflops must be positive, got {forward_cost} and {tflops}"
        )
    weights = model.parameters * _BYTES[dtype] / 2**30
    flop = 2.0 * model.parameters * model.tokens * forward_cost
    return Needs(
        gib=weights * (1 + _BESIDE),
        download_gib=weights,
        forward_cost=forward_cost,
        pflop=flop / 1e15,
        hours=flop / (tflops * 1e12) / 3600,
        tflops=tflops,
    )
