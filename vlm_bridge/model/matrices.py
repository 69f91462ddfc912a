"""Weight matrices of every build: plain, quantised or packed; what modules compute in."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

#: What hidden states may be of; weights may be stored in fewer bits.
_COMPUTING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def has_matrices(module: nn.Module) -> bool:
    """Whether a module has weight matrices, unlike norms, in whichever form they are kept."""
    parts = list(module.modules())
    stored = (tensor for part in parts for tensor in part._parameters.values())
    return any(tensor is not None and tensor.dim() > 1 for tensor in stored) or any(
        map(is_linear, parts)
    )


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map, of `nn.Linear` or of another class that replaces it."""
    return isinstance(getattr(module, "in_features", None), int) and isinstance(
        getattr(module, "out_features", None), int
    )


def device_of(module: nn.Module) -> torch.device:
    """The device of the first tensor of a module, the meta device included; else the CPU."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def example_of(module: nn.Module) -> Tensor:
    """A scalar of the dtype and on the device in which a module computes.

    float32 on the CPU if no tensor of it that is in memory says.
    """
    inside = [t for t in chain(module.parameters(), module.buffers()) if not t.is_meta]
    device = inside[0].device if inside else torch.device("cpu")
    dtype = next((t.dtype for t in inside if t.dtype in _COMPUTING), torch.float32)
    return torch.zeros((), dtype=dtype, device=device)
