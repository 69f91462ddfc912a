"""Low-rank adapters in the layers of a model, as PEFT puts them there, without PEFT."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn


class Adapted(nn.Module):
    """A linear map with a low-rank adapter beside it, with PEFT's attributes."""

    def __init__(self, linear, rank=2):
        super().__init__()
        self.base_layer = linear
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        self.scaling, self.disable_adapters = {"default": 2.0}, False
        self.active_adapters, self.merged_adapters = ["default"], []

    def forward(self, states):
        found = self.base_layer(states)
        if self.disable_adapters:
            return found
        return found + self.scaling["default"] * self.up(self.down(states))


class Tuned(nn.Module):
    """PEFT's wrapper as it looks from outside: it is no transformers model."""

    def __init__(self, model, *, virtual_tokens=False):
        super().__init__()
        self.base_model = model
        self.peft_config = {"default": SimpleNamespace(is_prompt_learning=virtual_tokens)}

    def get_base_model(self):
        return self.base_model

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)


def tuned(model, **options):
    torch.manual_seed(1)
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj).eval()
    return Tuned(model, **options).eval()
