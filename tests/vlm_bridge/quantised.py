"""Linear maps that stand in for `nn.Linear` as libraries of quantisation have them."""

from __future__ import annotations

import torch
from torch import nn

from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.model.vlm import VLM


class Int8(nn.Module):
    """Weights of 8 bits with a scale per output: a parameter of integers, and of another class."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        whole = (linear.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(whole, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, states):
        return nn.functional.linear(states, self.weight.to(states) * self.scale, self.bias)


class Packed(Int8):
    """The same without parameters and buffers, as packed weights of torch."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight, scale, bias = self.weight.data, self.scale, self.bias
        del self.weight, self.scale, self.bias
        self.weight, self.scale = weight, scale
        self.bias = None if bias is None else bias.detach()


class Float8(Int8):
    """Weights of 8 bits that are floating point numbers."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        small = (linear.weight.detach() / self.scale / 8).to(torch.float8_e4m3fn)
        self.weight = nn.Parameter(small, requires_grad=False)
        self.scale *= 8


class Rounding(Int8):
    """States are rounded, too, by one scale for all tokens."""

    def forward(self, states):
        scale = states.abs().max().clamp(min=1e-6) / 127
        return super().forward((states / scale).round() * scale)


class RoundingEach(Int8):
    """States are rounded, too, by a scale for every token."""

    def forward(self, states):
        scale = states.abs().amax(-1, keepdim=True).clamp(min=1e-6) / 127
        return super().forward((states / scale).round() * scale)


def replace_linears(module: nn.Module, kind) -> None:
    """Put a map of another kind in place of every `nn.Linear` inside."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, kind(child))


def quantised(kind, *, seed: int = 0) -> VLM:
    """The tiny LLaVA with all linear maps of its layers of another kind."""
    vlm = tiny_llava(seed=seed)
    for part in (vlm.layout.decoder, vlm.model.model.vision_tower):
        replace_linears(part, kind)
    return VLM.of("tiny", vlm.model, vlm.processor)
