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
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import token_masks, tracked
from vlm_bridge.skip.stack_layers import StackLayer
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
def sublayer_geometry(
    vlm: VLM, items: Sequence[Item], *, batch_size: int, stack: str = DECODER
) -> SublayerGeometry:
    """Measure the geometry of every sublayer of a stack in one forward pass.

    All positions of an encoder count, and as vision.
    """
    list(_parts_of(vlm, stack))  # refused before a pass
    sums = np.zeros((3, 2 * vlm.layout.depth(stack)))
    counts = np.zeros((3, 2 * vlm.layout.depth(stack)))
    for batch in tracked(vlm, items, batch_size, "geometry of sublayers"):
        masks = token_masks(vlm, batch) if stack == DECODER else None

        def add(layer: int, *states: Tensor, masks: Any = masks) -> None:
            every = torch.ones(states[0].shape[:-1], dtype=torch.bool)
            vision, real = (every, every) if masks is None else masks
            for part, (a, b) in enumerate(pairwise(states)):
                sums[:, 2 * layer + part] += _geometry(a, b, real, vision)
                counts[:, 2 * layer + part] += [int(m.sum()) for m in (real, real, vision)]

        with capturing_parts(vlm, add, stack=stack):
            first_logits(vlm, batch)
    return SublayerGeometry(*(sums / np.maximum(1, counts)))


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
def capturing_parts(vlm: VLM, on_parts: OnParts, *, stack: str = DECODER) -> Iterator[None]:
    """Call `on_parts` for every layer of every pass, with the state between its two updates.

    The layers are those of a stack of `vlm.layout.stacks`.

    That state is the input of the child module, a norm, whose output is the MLP's input.
    """
    between: dict[int, Tensor] = {}
    layers = vlm.layout.stack(stack).layers

    def forward_parts(layer: int, before: Tensor, after: Tensor) -> None:
        if layer not in between:
            raise BridgeError(
                f"layer {layer} ({type(layers[layer]).__name__}) passes no normalised "
                "state to its MLP, so its two updates cannot be separated"
            )
        on_parts(layer, before, between.pop(layer), after)

    with contextlib.ExitStack() as handles:
        for index, (layer, parts) in enumerate(_parts_of(vlm, stack)):
            for handle in _watch(layer, parts, between, index):
                handles.callback(handle.remove)
        with capturing_states(vlm, forward_parts, stack=stack):
            yield


def _parts_of(vlm: VLM, stack: str) -> Iterator[tuple[nn.Module, Sublayers]]:
    """The layers of a stack with their sublayers."""
    inside, alone = vlm.layout.stack(stack), stack == DECODER and not vlm.layout.encoder_decoder
    for index, layer in enumerate(inside.layers):
        yield layer, Sublayers.of(layer) if alone else _of_stack(index, layer, inside.width)


def _of_stack(index: int, layer: nn.Module, width: int) -> Sublayers:
    """The attention of a layer of an encoder, and the module through which its MLP is entered."""
    parts = StackLayer.of(layer, width)
    if parts.cross is not None or not parts.mlp:
        lacks = "no module that is its MLP" if parts.cross is None else "a cross-attention between"
        raise BridgeError(
            f"layer {index} ({type(layer).__name__}) has {lacks}, so its two updates cannot be "
            "separated; rank its blocks instead (--mode block)"
        )
    return Sublayers(parts.attention, parts.mlp[0])


def _watch(
    layer: nn.Module, parts: Sublayers, between: dict[int, Tensor], index: int
) -> Iterator[Any]:
    """Hooks that put the state between attention and MLP into `between[index]`."""
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
