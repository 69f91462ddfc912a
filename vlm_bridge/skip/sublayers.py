"""Find attention and MLP of a decoder layer by structure, and skip one of them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.matrices import example_of, has_matrices
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.patching import Forward, parameters_of, twin
from vlm_bridge.skip.tensors import first_of

#: Whether layers of a class return a tuple, of the classes that were tried.
_tuples: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
#: Layers that `check_residual` has passed.
_residual: WeakSet[nn.Module] = WeakSet()
#: Layer -> (attention runs, MLP runs) -> what `idle_norms` found.
_idle: WeakKeyDictionary[nn.Module, dict[tuple[bool, bool], tuple[nn.Module, ...]]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class Sublayers:
    """The two modules whose output a decoder layer adds to its hidden states.

    Attributes:
        attention: the child with a `layer_idx`.
        mlp: the other child with weight matrices (norms have vectors only).
    """

    attention: nn.Module
    mlp: nn.Module

    @classmethod
    def of(cls, layer: nn.Module) -> Sublayers:
        """The sublayers of a decoder layer; it needs one attention and one MLP as children."""
        attention = attention_of(layer)
        rest = [item for item in layer.named_children() if item[1] is not attention]
        mlp = {name: m for name, m in rest if has_matrices(m)}
        if len(mlp) != 1:
            raise BridgeError(
                f"{type(layer).__name__} has no single module that is its MLP (beside attention: "
                f"{', '.join(mlp) or 'none'}), so its output cannot be skipped"
            )
        return cls(attention, next(iter(mlp.values())))


def attention_of(layer: nn.Module) -> nn.Module:
    """The attention of a decoder layer: its child with a `layer_idx` that takes the cache."""
    attention = [child for child in layer.children() if hasattr(child, "layer_idx")]
    if len(attention) > 1:  # HunYuanVL numbers its MLPs, too
        attention = [child for child in attention if "past_key_values" in parameters_of(child)]
    if len(attention) != 1:
        raise BridgeError(
            f"{type(layer).__name__} has {len(attention)} attention modules among its children, "
            "not one"
        )
    return attention[0]


def check_interface(attention: object) -> None:
    """Raise a `BridgeError` for attention whose scores token pruning cannot read."""
    module = sys.modules[type(attention).__module__]
    if not hasattr(module, "ALL_ATTENTION_FUNCTIONS") or not hasattr(attention, "config"):
        raise BridgeError(
            f"{type(attention).__name__} does not go through transformers' AttentionInterface, "
            "so its scores cannot be read"
        )


def check_residual(layer: nn.Module, width: int) -> None:
    """Raise a `BridgeError` unless a layer is the identity when attention and MLP return zero.

    Then a zero output skips a residual update, `f(norm(h))` or `norm(f(norm(h)))`.
    """
    if layer in _residual:
        return
    noise, output = _with_updates(layer, width)
    if not torch.equal(first_of(output), noise):
        raise BridgeError(
            f"{type(layer).__name__} is not the identity when its attention and its MLP return "
            "zero, so a zero output does not skip a residual update"
        )
    _residual.add(layer)


def idle_norms(
    layer: nn.Module, width: int, *, attention: bool, mlp: bool
) -> tuple[nn.Module, ...]:
    """The norms of a layer that nothing reads where its attention or its MLP does not run.

    Those whose input in place of their output does not change one bit of the layer's output, tried
    once per layer on one row of noise.
    """
    found = _idle.setdefault(layer, {})
    if (attention, mlp) not in found:
        found[attention, mlp] = tuple(_try_idle(layer, width, float(attention), float(mlp)))
    return found[attention, mlp]


def _try_idle(layer: nn.Module, width: int, attention: float, mlp: float) -> Iterator[nn.Module]:
    if (attention and mlp) or any(parameter.is_meta for parameter in layer.parameters()):
        return
    parts = Sublayers.of(layer)
    try:
        output = first_of(_with_updates(layer, width, attention, mlp)[1])
        for norm in layer.children():
            if norm in (parts.attention, parts.mlp) or not list(norm.parameters()):
                continue
            again = first_of(_with_updates(layer, width, attention, mlp, norm)[1])
            if torch.equal(output, again):
                yield norm
    except BridgeError:  # a layer that needs more than hidden states, which is no error
        return


def returns_tuple(layer: nn.Module, width: int) -> bool:
    """Whether layers of this class return a tuple, as in older models; False if none can run."""
    kind = type(layer)
    if kind not in _tuples:
        try:
            _tuples[kind] = isinstance(_with_updates(layer, width)[1], tuple)
        except BridgeError:
            return False
    return _tuples[kind]


def _with_updates(
    layer: nn.Module,
    width: int,
    attention: float = 0.0,
    mlp: float = 0.0,
    idle: nn.Module | None = None,
) -> tuple[Tensor, Any]:
    """One row of noise, and a layer's output on it.

    In place of attention and MLP runs their input, reversed, times a factor; in place of a norm
    `idle` its input. They are put into a twin of the layer, which other threads may run meanwhile.
    """
    kind = type(layer).__name__
    if any(parameter.is_meta for parameter in layer.parameters()):
        layer = _with_unit_norms(layer)
    parts = Sublayers.of(layer)
    like = example_of(layer)
    noise = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)[None, None]

    def update(factor: float, states: Iterable[Tensor]) -> Tensor:
        return next(iter(states)).flip(-1) * factor if factor else torch.zeros_like(noise)

    instead: list[tuple[nn.Module | None, Forward]] = [
        (parts.attention, lambda *a, **k: (update(attention, [*a, *k.values()]), None)),
        (parts.mlp, lambda *a, **k: update(mlp, [*a, *k.values()])),
        (idle, unchanged),
    ]
    changed = {}
    for name, child in layer.named_children():
        for part, forward in instead:
            if child is part:
                changed[name] = twin(child)
                changed[name].__dict__["forward"] = forward
    try:
        with torch.no_grad():
            inner = twin(layer, **changed)
            return noise, inner.forward(noise, position_embeddings=(noise, noise))
    except Exception as error:
        raise BridgeError(
            f"{kind} does not run if its attention and its MLP return zero "
            f"({type(error).__name__}: {error})"
        ) from error


def _with_unit_norms(layer: nn.Module) -> nn.Module:
    """A copy of a meta layer with norms of weight one; the check holds for any weight."""
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


def no_attention(
    index: int, config: Any, hidden_states: Tensor, past_key_values: Any = None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Zeros in place of attention; a zero placeholder in the cache keeps its length right.

    Where eager attention would return weights that the caller asks for, they are zero.
    """
    batch, keys, _ = hidden_states.shape
    if past_key_values is not None:
        filler = placeholder(past_key_values, index, hidden_states)
        keys = past_key_values.update(*filler, index)[0].shape[2]
    weights = None
    if wants_weights(config, options):
        shape = batch, config.num_attention_heads, hidden_states.shape[1], keys
        weights = hidden_states.new_zeros(shape)
    return hidden_states.new_zeros(1).expand_as(hidden_states), weights


def wants_weights(config: Any, options: dict[str, Any]) -> bool:
    """Whether a pass with these `options` of its layers collects eager attention weights."""
    wanted = options.get("output_attentions")
    wanted = getattr(config, "output_attentions", False) if wanted is None else wanted
    return bool(wanted) and config._attn_implementation == "eager"


def no_mlp(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """Zeros in place of the output of the MLP."""
    return hidden_states.new_zeros(1).expand_as(hidden_states)


def unchanged(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """The hidden states, in place of a norm that nothing reads."""
    return hidden_states
