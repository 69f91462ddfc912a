"""Low-rank adaptation of linear layers, and its merge into them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """`y = W x + (alpha / r) B A x` with W frozen (Hu et al. 2021, eq. 3); B starts at zero."""

    def __init__(self, base: nn.Linear, rank: int, alpha: int) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """The adapted linear map, `(..., in) -> (..., out)`."""
        adapted: Tensor = self.base(x) + (x @ self.a.T) @ self.b.T * self.scale
        return adapted


def add_lora(
    layers: nn.ModuleList, targets: Iterable[str], rank: int, alpha: int
) -> dict[str, nn.Parameter]:
    """Wrap the named projections in every layer; returns `{layer}.{projection}.a` and `.b`."""
    parameters: dict[str, nn.Parameter] = {}
    targets = tuple(targets)
    for index, layer in enumerate(layers):
        for target in targets:
            holder = _holder(layer, target)
            wrapped = LowRank(getattr(holder, target), rank, alpha)
            setattr(holder, target, wrapped)
            parameters[f"{index}.{target}.a"] = wrapped.a
            parameters[f"{index}.{target}.b"] = wrapped.b
    return parameters


@torch.no_grad()
def merge_lora(layers: nn.ModuleList, tensors: dict[str, Tensor], rank: int, alpha: int) -> None:
    """Add `(alpha / r) B A` to the plain linear layers, in float32, in place."""
    for name in sorted(key[: -len(".a")] for key in tensors if key.endswith(".a")):
        index, target = name.split(".")
        linear = getattr(_holder(layers[int(index)], target), target)
        update = tensors[f"{name}.b"].float() @ tensors[f"{name}.a"].float()
        linear.weight += (alpha / rank) * update


def _holder(layer: nn.Module, target: str) -> nn.Module:
    """The attention or MLP module with a projection of that name."""
    parts = (layer.get_submodule("self_attn"), layer.get_submodule("mlp"))
    return next(part for part in parts if hasattr(part, target))
