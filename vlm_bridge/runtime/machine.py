"""The machine, versions and command of a measurement."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
import transformers


def machine() -> dict[str, Any]:
    """Device, threads and versions, and the command of this process."""
    cuda = torch.cuda.is_available()
    return {
        "command": command_line(),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def command_line() -> str:
    """The command of this process, without the paths of interpreter and script."""
    words = sys.orig_argv[1:]
    script = Path(words[0]).name if words else ""
    return shlex.join([script, *words[1:]] if script == "skipit" else ["python", *words])
