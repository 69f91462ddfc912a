"""Trained tensors in their shipped formats: bfloat16, or 8-bit integers with a scale per row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: Suffix of the name of an 8-bit matrix, for its scales.
SCALE = ".scale"


def to_stored(parts: Mapping[str, Tensor], kind: str, keep: str = "-") -> dict[str, Tensor]:
    """Convert tensors to their shipped format; `from_stored` converts them back.

    `int8` stores every matrix `W` as `round(W / s)` with `s = max |W| / 127` for each first-axis
    row: an error of at most `s / 2`. Vectors are float16, tensors named `keep...` bfloat16.

    Example:
        >>> stored = to_stored({"w": torch.tensor([[1.0, -0.5], [0.0, 0.0]])}, "int8")
        >>> from_stored(stored)["w"]
        tensor([[ 1.0000, -0.5039],
                [ 0.0000,  0.0000]])
    """
    stored: dict[str, Tensor] = {}
    for name, part in parts.items():
        if kind == "bfloat16" or name.startswith(keep):
            stored[name] = part.to(torch.bfloat16).contiguous()
            continue
        if part.dim() < 2:
            stored[name] = part.to(torch.float16).contiguous()
            continue
        rows = part.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(part.shape)
        stored[name + SCALE] = scale
    return stored


def from_stored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert shipped tensors to float32."""
    parts: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        part = tensor.float()
        if tensor.dtype == torch.int8:
            part = part * stored[name + SCALE].reshape(-1, *[1] * (part.dim() - 1))
        parts[name] = part
    return parts
