"""Both forms of `block` and `sublayer` in encoders and in decoders with cross-attention.

Their layers keep no cache, or one of an encoder-decoder, and may have the MLP in pieces.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.matrices import example_of, has_matrices, is_linear
from vlm_bridge.model.stacks import attentions
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.skip.cache import placeholder
from vlm_bridge.skip.patching import Forward, forward_of, parameters_of, patched, twin
from vlm_bridge.skip.tensors import first_of, like, states_of, zeroed

#: What an attention returns: states with one or two more values, or states alone.
_FORMS: tuple[Callable[[Tensor], Any], ...] = (
    lambda states: (states, None),
    lambda states: (states, None, None),
    lambda states: states,
)
#: Layer -> its parts, of the layers that were tried.
_known: WeakKeyDictionary[nn.Module, StackLayer] = WeakKeyDictionary()


@dataclass(frozen=True)
class StackLayer:
    """The parts of a layer whose output it adds to its hidden states, and what it returns.

    Attributes:
        attention: the self-attention.
        cross: the attention to the states of an encoder; None in encoders.
        mlp: the modules of the MLP in the order in which they run, of which the last gives its
            output; empty if no single module or pair of linear maps can be the MLP.
        form: puts states into the form of the attention's output.
        n_more: how many values the layer returns after its states; None if it returns these bare.
        residual: without the outputs of these parts the layer is the identity.
    """

    attention: nn.Module
    cross: nn.Module | None
    mlp: tuple[nn.Module, ...]
    form: Callable[[Tensor], Any] = _FORMS[0]
    n_more: int | None = None
    residual: bool = False

    @classmethod
    def of(cls, layer: nn.Module, width: int) -> StackLayer:
        """The parts of a layer of this width, tried once on one row of noise.

        Raises:
            BridgeError: no or several self-attentions, or the layer does not run without updates.
        """
        if layer not in _known:
            _known[layer] = _tried(layer, _parts(layer), width)
        return _known[layer]

    def without_updates(self, width: int, form: Callable[[Tensor], Any]) -> Replacements:
        """(module, replacement) so that attention, cross-attention and MLP return zeros."""
        for part in filter(None, (self.attention, self.cross)):
            yield part, partial(_no_attention, part, None, form)
        yield from self.without_mlp(width)

    def without_mlp(self, width: int) -> Replacements:
        """(module, replacement) so that the MLP computes nothing and returns zeros."""
        for module in self.mlp[:-1]:
            yield module, _one_column
        for module in self.mlp[-1:]:
            yield module, partial(_no_output, width)


Replacements = Iterator[tuple[nn.Module, Forward]]


def fast_layer(index: int, layer: nn.Module, operation: Operation, width: int) -> Replacements:
    """(module, replacement of its forward) that leaves out what `operation` skips."""
    if operation == Operation():
        return
    parts = StackLayer.of(layer, width)
    if operation.bypass:
        yield layer, partial(_pass_by, layer, index, parts.n_more)
        return
    if not operation.attention:
        attention = parts.attention
        yield attention, partial(_no_attention, attention, index, parts.form)
    if not operation.mlp:
        yield from parts.without_mlp(width)


def plain_layer(index: int, layer: nn.Module, operation: Operation, width: int) -> Replacements:
    """(module, replacement of its forward) that computes everything, then undoes it."""
    if operation == Operation():
        return
    parts = StackLayer.of(layer, width)
    if operation.bypass:
        yield layer, partial(_undone, layer, forward_of(layer))
        return
    undone = [] if operation.attention else [parts.attention]
    for module in (*undone, *(() if operation.mlp else parts.mlp[-1:])):
        yield module, partial(zeroed, forward_of(module))


def reason_against(mode: str, layers: Iterable[tuple[int, nn.Module]], width: int) -> str:
    """Why a mode cannot be had in these (index, layer), empty if it can."""
    for index, layer in layers:
        kind = type(layer).__name__
        try:
            parts = StackLayer.of(layer, width)
        except BridgeError as error:
            return f"layer {index}: {error}"
        if mode == "sublayer" and not parts.mlp:
            return f"layer {index}: {kind} has no module or pair of linear maps that is its MLP"
        if mode == "sublayer" and not parts.residual:
            return (
                f"layer {index}: {kind} is not the identity when its attention and its MLP return "
                "zero, so a zero output does not skip a residual update"
            )
    return ""


def _parts(layer: nn.Module) -> StackLayer:
    found = attentions(layer)
    cross = {name: m for name, m in found.items() if "encoder" in name or "cross" in name}
    own = [module for name, module in found.items() if name not in cross]
    if len(own) != 1 or len(cross) > 1:
        raise BridgeError(
            f"{type(layer).__name__} has {len(own)} self-attentions and {len(cross)} "
            "cross-attentions among its children, not one and at most one"
        )
    rest = [
        child for child in layer.children() if child not in found.values() and has_matrices(child)
    ]
    linear = all(map(is_linear, rest))
    mlp = tuple(rest) if len(rest) == 1 or (len(rest) == 2 and linear) else ()
    return StackLayer(own[0], next(iter(cross.values()), None), mlp)


@torch.no_grad()
def _tried(layer: nn.Module, parts: StackLayer, width: int) -> StackLayer:
    """The parts with what is known from a run of the layer in which they return zeros.

    A twin runs, since other threads may run the layer meanwhile.
    """
    if any(parameter.is_meta for parameter in layer.parameters()):
        runs = _with_unit_norms(layer)
    else:
        runs = twin(layer, **{name: twin(child) for name, child in layer.named_children()})
    inside = _parts(runs)
    noise = torch.linspace(-1, 1, width).to(example_of(runs))[None, None]
    names = inspect.signature(type(layer).forward).parameters.values()
    needed = [p.name for p in names if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    failed: Exception | None = None
    for form in _FORMS:
        try:
            with ExitStack() as stack:
                for module, forward in inside.without_updates(width, form):
                    stack.enter_context(patched(module, forward))
                output = forward_of(runs)(noise, **dict.fromkeys(needed[2:]))
        except (
            Exception
        ) as error:  # another form, or a layer that needs more, which is no error yet
            failed = failed or error
            continue
        n_more = len(output) - 1 if isinstance(output, tuple) else None
        residual = bool(parts.mlp) and torch.equal(first_of(output), noise)
        return StackLayer(parts.attention, parts.cross, parts.mlp, form, n_more, residual)
    raise BridgeError(
        f"{type(layer).__name__} does not run if its attention and its MLP return zero "
        f"({type(failed).__name__}: {failed})"
    ) from failed


def _with_unit_norms(layer: nn.Module) -> nn.Module:
    """A copy of a meta layer with weights of one outside attention and MLP; any weight will do."""
    layer = copy.deepcopy(layer)
    parts = _parts(layer)
    kept = {id(part) for part in (parts.attention, parts.cross, *parts.mlp)}
    for name, parameter in list(layer._parameters.items()):
        if parameter is not None:
            layer._parameters[name] = nn.Parameter(torch.ones(parameter.shape))
    for child in layer.children():
        if id(child) not in kept:
            child.to_empty(device="cpu").float()
            for parameter in child.parameters():
                parameter.data.fill_(1)
    return layer


def _states_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states, which come first, by whatever name."""
    first = parameters_of(module)[0]
    return states_of(args, {**kwargs, "hidden_states": kwargs.get(first)})


def _argument(module: nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return (dict(zip(parameters_of(module), args, strict=False)) | kwargs).get(name)


def _hold_place(cache: Any, index: int, states: Tensor) -> None:
    """Zero keys in the cache of a self-attention, which keep its length right."""
    cache = getattr(cache, "self_attention_cache", cache)
    if cache is not None:
        cache.update(*placeholder(cache, index, states), index)


def _hold_cross_place(cache: Any, index: int, encoded: Tensor | None) -> None:
    """Zero keys in the cache of a cross-attention: Whisper's `generate` reads those of all layers.

    They are of one head and one channel, and are made once.
    """
    if isinstance(cache, EncoderDecoderCache) and encoded is not None:
        if not cache.is_updated.get(index):
            cross = cache.cross_attention_cache
            cross.update(*placeholder(cross, index, encoded), index)
            cache.is_updated[index] = True


def _pass_by(layer: nn.Module, index: int, n_more: int | None, *args: Any, **kwargs: Any) -> Any:
    states = _states_of(layer, args, kwargs)
    cache = _argument(layer, "past_key_values", args, kwargs)
    _hold_place(cache, index, states)
    _hold_cross_place(cache, index, _argument(layer, "encoder_hidden_states", args, kwargs))
    return states if n_more is None else (states, *(None,) * n_more)


def _no_attention(
    module: nn.Module,
    index: int | None,
    form: Callable[[Tensor], Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    states = _states_of(module, args, kwargs)
    if index is not None:
        _hold_place(_argument(module, "past_key_values", args, kwargs), index, states)
    return form(states.new_zeros(1).expand_as(states))


def _one_column(states: Tensor) -> Tensor:
    """The first column, in place of a product that nobody uses."""
    return states[..., :1]


def _no_output(width: int, states: Tensor, *_: Any, **__: Any) -> Tensor:
    return states.new_zeros(1).expand(*states.shape[:-1], width)


def _undone(layer: nn.Module, forward: Forward, *args: Any, **kwargs: Any) -> Any:
    return like(forward(*args, **kwargs), _states_of(layer, args, kwargs))
