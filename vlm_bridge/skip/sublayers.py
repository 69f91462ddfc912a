"""Attention and MLP of a decoder layer, found by structure, and how to leave one out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.patching import patched
from vlm_bridge.skip.tensors import first_of


@dataclass(frozen=True)
class Sublayers:
    """The two modules whose output a decoder layer adds to its hidden states.

    Attributes:
        attention: the one child that knows its `layer_idx`.
        mlp: the one other child with weight matrices (norms have vectors only).
    """

    attention: nn.Module
    mlp: nn.Module

    @classmethod
    def of(cls, layer: nn.Module) -> Sublayers:
        """The sublayers of a decoder layer.

        Raises:
            BridgeError: it has not one attention and one MLP as children.
        """
        children = list(layer.children())
        attention = [child for child in children if hasattr(child, "layer_idx")]
        rest = [child for child in children if child not in attention]
        mlp = [child for child in rest if any(p.dim() > 1 for p in child.parameters())]
        if len(attention) != 1 or len(mlp) != 1:
            raise BridgeError(
                f"{type(layer).__name__} has {len(attention)} attention modules and {len(mlp)} "
                "MLPs among its children; a sublayer can be left out of one of each"
            )
        return cls(attention[0], mlp[0])


def check_residual(layer: nn.Module, width: int) -> None:
    """Check that a layer whose attention and MLP give zero is the identity.

    Then leaving out a residual update is the same as a zero output of the module, whether
    the layer is `h + f(norm(h))` or `h + norm(f(norm(h)))`.

    Raises:
        BridgeError: it is not, or the layer cannot be called that way.
    """
    noise, output = _without_sublayers(layer, width)
    if not torch.equal(first_of(output), noise):
        raise BridgeError(
            f"{type(layer).__name__} is not the identity where its attention and its MLP give "
            "zero, so leaving one out is not the same as skipping its residual update"
        )


def returns_tuple(layer: nn.Module, width: int) -> bool:
    """Whether a layer returns its hidden states in a tuple, as those of older models do.

    A layer that cannot be called to find out is taken for one of today's.
    """
    try:
        return isinstance(_without_sublayers(layer, width)[1], tuple)
    except BridgeError:
        return False


def _without_sublayers(layer: nn.Module, width: int) -> tuple[Tensor, Any]:
    """One row of noise, and what a layer makes of it if attention and MLP give zero.

    Neither is called; norms are.
    """
    kind = type(layer).__name__
    if next(layer.parameters()).is_meta:
        layer = _with_any_norms(layer)
    parts = Sublayers.of(layer)
    norm = next(p for p in layer.parameters() if not p.is_meta and p.is_floating_point())
    noise = torch.linspace(-1, 1, width, dtype=norm.dtype, device=norm.device)[None, None]
    try:
        with (
            torch.no_grad(),
            patched(parts.attention, lambda *_, **__: (torch.zeros_like(noise), None)),
            patched(parts.mlp, lambda *_, **__: torch.zeros_like(noise)),
        ):
            return noise, layer.forward(noise, position_embeddings=(noise, noise))
    except Exception as error:
        raise BridgeError(
            f"{kind} does not run with an attention and an MLP that give zero "
            f"({type(error).__name__}: {error})"
        ) from error


def _with_any_norms(layer: nn.Module) -> nn.Module:
    """A copy without the weights of attention and MLP, its norms filled with ones.

    What a norm makes of zero depends on its kind, not on its weight.
    """
    layer = copy.deepcopy(layer)
    for module in layer.modules():
        for name in ("forward", "_old_forward", "_hf_hook"):  # accelerate's, of offloaded weights
            module.__dict__.pop(name, None)
    parts = Sublayers.of(layer)
    for child in layer.children():
        if child not in (parts.attention, parts.mlp):
            child.to_empty(device="cpu").float()
            for parameter in child.parameters():
                parameter.data.fill_(1)
    return layer


class NoAttention:
    """Zero in place of attention; a zero placeholder keeps the cache's length true."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __call__(
        self, hidden_states: Tensor, past_key_values: Any = None, **_: Any
    ) -> tuple[Tensor, None]:
        """The output of the attention module: zero, and no weights."""
        if past_key_values is not None:
            zeros = placeholder(past_key_values, self._index, hidden_states)
            past_key_values.update(*zeros, self._index)
        return hidden_states.new_zeros(1).expand_as(hidden_states), None


def no_mlp(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """Zero in place of the MLP."""
    return hidden_states.new_zeros(1).expand_as(hidden_states)
