"""Builds of a layer that cannot be skipped as others are: wrapped, or its rows depend on others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from vlm_bridge.model.matrices import example_of, is_linear

#: Linear map -> (its build, whether its rows depend on one another), of those tried.
_tried: WeakKeyDictionary[nn.Module, tuple[Any, bool]] = WeakKeyDictionary()


def reason_of_wrapping(index: int, layer: nn.Module) -> str:
    """Why the parts of a layer cannot be reached, empty if they can."""
    attentions = [(f"{n} of ", m) for n, m in layer.named_children() if "att" in n]
    for of, module in [("", layer), *attentions]:
        if "_orig_mod" in module._modules:
            return (
                f"{of}layer {index} is wrapped by torch.compile, so that its parts cannot be "
                "replaced; compile it in place, `module.compile()`, or compile the whole model"
            )
    return ""


def reason_of_rows(index: int, layer: nn.Module) -> str:
    """Why a layer gives a token other states where other tokens are left out, empty if it does not.

    So it is if its linear maps round their inputs by the largest of all tokens, as the dynamic
    quantisation of torch does, or choose outliers among all.
    """
    for name, linear in _quantised(layer):
        if _rows_depend(linear, layer):
            return (
                f"layer {index}: {name} ({type(linear).__name__}) quantises the states of all "
                "tokens by one scale or choice, so that a token changes if others are left out; "
                "use block or sublayer, or quantise weights alone"
            )
    return ""


def _quantised(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, linear map) of a layer, but for plain ones and those without weights in memory."""
    for name, module in layer.named_modules():
        plain = type(module) is nn.Linear and type(module.weight) is nn.Parameter
        if plain and "forward" not in vars(module):
            continue
        wrapped = "_orig_mod" in module._modules  # what it wraps comes by itself
        if wrapped or not is_linear(module) or any(p.is_meta for p in module.parameters()):
            continue
        yield name, module


def _rows_depend(linear: nn.Module, layer: nn.Module) -> bool:
    build = _build(linear)
    if (known := _tried.get(linear)) is None or known[0] != build:
        known = _tried[linear] = build, _try_rows(linear, layer)
    return known[1]


def _build(linear: nn.Module) -> tuple[Any, ...]:
    """What a verdict on a linear map holds for: its kind of weight, its function and settings."""
    own = vars(linear)
    inner = [vars(v) for v in own.values() if hasattr(v, "__dict__") and not isinstance(v, type)]
    simple = [
        (name, value)
        for attributes in (own, *inner)
        for name, value in attributes.items()
        if name != "training" and isinstance(value, str | int | float | bool | None)
    ]
    return type(getattr(linear, "weight", None)), id(own.get("forward")), repr(simple)


@torch.no_grad()
def _try_rows(linear: nn.Module, layer: nn.Module) -> bool:
    """Whether one row has another result beside a row that is far larger."""
    like = example_of(layer)
    small = torch.linspace(-1, 1, int(str(linear.in_features)))
    rows = torch.stack([small, 1e4 * small.flip(0)]).to(like.dtype)[None]
    rows = rows.to(like.device)
    try:
        with as_it_was(linear):
            alone, beside = linear.forward(rows[:, :1]), linear.forward(rows)[:, :1]
    except Exception:  # a map that takes more than states, which is no error
        return False
    tolerance = max(1e-3, torch.finfo(like.dtype).eps)  # a norm averages what rounding does
    return bool((beside - alone).norm() > tolerance * alone.norm())


@contextlib.contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """A module in evaluation; its modes, its buffers and the random state are given back."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            module.eval()
            yield
        finally:
            for part, training in modes:
                part.training = training
            for buffer, before in buffers:
                buffer.copy_(before)
