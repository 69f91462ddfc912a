"""What numbers were measured on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from typing import Any

import torch
import transformers


def machine() -> dict[str, Any]:
    """Device, threads and versions, and the command of this process."""
    cuda = torch.cuda.is_available()
    return {
        "command": shlex.join(sys.orig_argv),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
