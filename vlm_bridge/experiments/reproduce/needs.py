"""Memory, disk and time of a run on a large model, and whether this machine has them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.reproduce.published import Published

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_OVERHEAD = 0.2  # memory of activations, cache and allocator, as a share of the weights


@dataclass(frozen=True)
class Needs(Record):
    """Needs of a run, estimated from the size of the model.

    Attributes:
        gib: device memory in GiB: weights, and a fifth more for activations, cache and allocator.
        download_gib: size of the weights in GiB.
        forward_cost: forward passes over one image, skipped passes counted as full.
        pflop: `2 * parameters * tokens` for each pass, in PFLOP.
        hours, tflops: time at this throughput in TFLOP/s, as reached in practice.
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
    """Memory and time of `forward_cost` forward passes of one image each.

    An A100 reaches about 100 TFLOP/s in bfloat16.

    Example:
        >>> from vlm_bridge.experiments.reproduce.published import find_published
        >>> round(needs_of(find_published("llava-1.5-7b"), forward_cost=1000).download_gib)
        13
    """
    if dtype not in _BYTES:
        raise BridgeError(f"unknown dtype '{dtype}'; choose from {', '.join(_BYTES)}")
    if forward_cost < 1 or not tflops > 0:
        given = f"{forward_cost} and {tflops}"
        raise BridgeError(f"forward_cost and tflops must be positive, got {given}")
    weights = model.parameters * _BYTES[dtype] / 2**30
    flop = 2.0 * model.parameters * model.tokens * forward_cost
    return Needs(
        gib=weights * (1 + _OVERHEAD),
        download_gib=weights,
        forward_cost=forward_cost,
        pflop=flop / 1e15,
        hours=flop / (tflops * 1e12) / 3600,
        tflops=tflops,
    )


@dataclass(frozen=True)
class Machine:
    """Free memory of a torch device, and free disk in the folder of downloaded weights, in GiB."""

    device: str
    memory_gib: float
    disk_gib: float

    @classmethod
    def here(cls, device: str | None = None) -> Machine:
        """This machine, with the device for the model."""
        name = device or "cpu"
        if torch.device("cpu" if name == "auto" else name).type == "cuda":
            memory = float(torch.cuda.mem_get_info(torch.device(name))[0])
        else:
            memory = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        folder = Path(HF_HUB_CACHE)
        while not folder.exists():
            folder = folder.parent
        return cls(name, memory / 2**30, shutil.disk_usage(folder).free / 2**30)

    def lacks(self, needs: Needs, *, download: bool) -> list[str]:
        """Lacking memory and disk; empty if the run fits.

        Example:
            >>> from vlm_bridge.experiments.reproduce import find_published, needs_of
            >>> needs = needs_of(find_published("llava-1.5-7b"), forward_cost=100)
            >>> Machine("cpu", 8.0, 100.0).lacks(needs, download=True)
            ['16 GiB of memory on cpu, 8 are free']
        """
        lacking, memory, disk = [], self.memory_gib, self.disk_gib
        if memory < needs.gib:
            lacking.append(f"{needs.gib:.0f} GiB of memory on {self.device}, {memory:.0f} are free")
        if download and disk < needs.download_gib:
            weights = f"{needs.download_gib:.0f} GiB of disk for the weights"
            lacking.append(f"{weights}, {disk:.0f} are free (HF_HOME names the folder)")
        return lacking
