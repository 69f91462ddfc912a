"""Change of the residual stream by attention and by MLP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import token_masks, tracked
from vlm_bridge.skip.sublayers import Sublayers
from vlm_bridge.skip.tensors import first_of, states_of

#: (layer, its input, the state between attention and MLP, its output), (batch, length, width).
OnParts = Callable[[int, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class SublayerGeometry:
    """Mean geometry of every sublayer: attention of layer 0, its MLP, attention of layer 1, ...

    With a the state before a sublayer and b the state after it, both on the residual stream:

    Attributes:
        similarity: (2 L,) mean over all tokens of `cos(a, b)`.
        scale: (2 L,) mean over all tokens of `|b| / |a|`.
        vision_change: (2 L,) mean over vision tokens of `|b - a| / |a|`.
    """

    similarity: Floats
    scale: Floats
    vision_change: Floats


@torch.no_grad()
def sublayer_geometry(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> SublayerGeometry:
    """Measure the geometry of every sublayer in one forward pass."""
    sums = np.zeros((3, 2 * vlm.layout.n_layers))
    n_tokens = n_vision = 0
    for batch in tracked(vlm, items, batch_size, "geometry of sublayers"):
        vision, real = masks = token_masks(vlm, batch)
        n_tokens, n_vision = n_tokens + int(real.sum()), n_vision + int(vision.sum())

        def add(layer: int, *states: Tensor, masks: tuple[Tensor, Tensor] = masks) -> None:
            for part, (a, b) in enumerate(pairwise(states)):
                sums[:, 2 * layer + part] += _geometry(a, b, masks[1], masks[0])

        with capturing_parts(vlm, add):
            first_logits(vlm, batch)
    return SublayerGeometry(sums[0] / n_tokens, sums[1] / n_tokens, sums[2] / max(1, n_vision))


def _geometry(a: Tensor, b: Tensor, real: Tensor, vision: Tensor) -> Floats:
    """Sums over tokens of cosine, ratio of lengths, and relative change of vision tokens."""
    a, b = a.double(), b.double()
    real, vision = real.to(a.device), vision.to(a.device)
    tiny = torch.finfo(a.dtype).tiny
    long_a, long_b = a.norm(dim=-1).clamp(min=tiny), b.norm(dim=-1).clamp(min=tiny)
    cosine = (a * b).sum(-1) / (long_a * long_b)
    change = (b - a).norm(dim=-1) / long_a
    sums = [cosine[real].sum(), (long_b / long_a)[real].sum(), change[vision].sum()]
    return np.array([float(value) for value in sums])


@contextlib.contextmanager
def capturing_parts(vlm: VLM, on_parts: OnParts) -> Iterator[None]:
    """Call `on_parts` for every layer of every pass, with the state between its two updates.

    That state is the input of the child module, a norm, whose output is the MLP's input.
    """
    between: dict[int, Tensor] = {}

    def forward_parts(layer: int, before: Tensor, after: Tensor) -> None:
        if layer not in between:
            raise BridgeError(
                f"layer {layer} ({type(vlm.layout.layers[layer]).__name__}) passes no normalised "
                "state to its MLP, so its two updates cannot be separated"
            )
        on_parts(layer, before, between.pop(layer), after)

    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers):
            for handle in _watch(layer, between, index):
                stack.callback(handle.remove)
        with capturing_states(vlm, forward_parts):
            yield


def _watch(layer: nn.Module, between: dict[int, Tensor], index: int) -> Iterator[Any]:
    """Hooks that put the state between attention and MLP into `between[index]`."""
    parts = Sublayers.of(layer)
    passed: list[tuple[Tensor, Tensor]] = []

    def remember(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        passed.append((states_of(args, kwargs), first_of(output)))

    def match(_: nn.Module, args: Any, kwargs: Any) -> None:
        mlp_input = states_of(args, kwargs)
        for before, after in passed:
            if after is mlp_input:
                between[index] = before
        passed.clear()

    for child in layer.children():
        if child not in (parts.attention, parts.mlp):
            yield child.register_forward_hook(remember, with_kwargs=True)
    yield parts.mlp.register_forward_pre_hook(match, with_kwargs=True)
