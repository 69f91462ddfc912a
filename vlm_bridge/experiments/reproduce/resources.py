"""What this machine has, against what a run needs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from vlm_bridge.experiments.reproduce.needs import Needs


@dataclass(frozen=True)
class Machine:
    """Memory of the device and disk of the cache, in GiB.

    Attributes:
        device: a torch device.
        memory_gib: free memory of the device.
        disk_gib: free disk where downloaded weights go.
    """

    device: str
    memory_gib: float
    disk_gib: float

    @classmethod
    def here(cls, device: str | None = None) -> Machine:
        """This machine, with the device a model would be loaded on."""
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
        """What is missing, in words; empty where nothing is.

        Example:
            >>> from vlm_bridge.experiments.reproduce import find_published, needs_of
            >>> needs = needs_of(find_published("llava-1.5-7b"), forward_cost=100)
            >>> Machine("cpu", 8.0, 100.0).lacks(needs, download=True)
            ['16 GiB of memory on cpu, 8 are free']
        """
        found = []
        if self.memory_gib < needs.gib:
            found.append(
                f"{needs.gib:.0f} GiB of memory on {self.device}, {self.memory_gib:.0f} are free"
            )
        if download and self.disk_gib < needs.download_gib:
            found.append(
                f"{needs.download_gib:.0f} GiB of disk for the weights, {self.disk_gib:.0f} are "
                "free (HF_HOME names the folder)"
            )
        return found
