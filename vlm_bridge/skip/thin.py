"""Run a part of an attention only: keys and values without queries, or queries without them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vlm_bridge.model.layout import Layout
from vlm_bridge.model.matrices import device_of
from vlm_bridge.skip.builds import as_it_was
from vlm_bridge.skip.patching import Forward, by_name, forward_of, patched, twin
from vlm_bridge.skip.sublayers import attention_of
from vlm_bridge.skip.tensors import Interrupt, first_of

#: Whether a layer's attention can be halved, of the layers that were tried.
_halved: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_QUERY, _KEYS = "q_proj", ("k_proj", "v_proj")


def with_attention(layer: nn.Module, attention: nn.Module) -> nn.Module:
    """A twin of a layer around another attention."""
    old = attention_of(layer)
    name = next(name for name, child in layer.named_children() if child is old)
    return twin(layer, **{name: attention})


class _OneHead(nn.Module):
    """In place of a projection: one head of zeros, for a part of attention that nobody uses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) zeros."""
        return states.new_zeros(1).expand(*states.shape[:-1], self.width)


class Halves:
    """The two halves of an attention, each run without the projections of the other.

    They run as parts of the whole layer, or, with `alone`, of the attention called by itself.

    Attention with children `q_proj`, `k_proj` and `v_proj` that splits their output into as many
    heads as come is halved where `try_halves` has found that this gives the same. Any other
    attention runs whole: slower, with the same result.
    """

    def __init__(
        self, layer: nn.Module, *, halved: bool | None = None, alone: bool = False
    ) -> None:
        attention: Any = attention_of(layer)
        self._whole = self._keys = forward_of(attention if alone else layer)
        self._part = threading.local()
        self.replacements: list[tuple[nn.Module, Forward]] = []
        if not (_halved.get(layer, False) if halved is None else halved):
            return
        head = _OneHead(int(attention.head_dim))
        of_keys = twin(attention, **{_QUERY: head})
        self._keys = (of_keys if alone else with_attention(layer, of_keys)).forward
        for name in _KEYS:
            projection = getattr(attention, name)
            self.replacements.append((projection, self._unless_queries(projection, head)))

    def keys_and_values(self, states: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, ...] | None:
        """Keys and values of the rows of `states`; None if none are given to the cache."""
        return _until_cache(self._keys, states, kwargs)

    def queries(self, states: Tensor, kwargs: dict[str, Any]) -> Any:
        """The output on the rows of `states`; the cache in `kwargs` brings keys and values."""
        self._part.queries = True
        try:
            return self._whole(states, **kwargs)
        finally:
            self._part.queries = False

    def _unless_queries(self, projection: Any, head: _OneHead) -> Forward:
        forward = forward_of(projection)

        def project(states: Tensor, *args: Any, **kwargs: Any) -> Any:
            if getattr(self._part, "queries", False):
                return head(states)
            return forward(states, *args, **kwargs)

        return project


def try_halves(layout: Layout, layers: Iterable[int]) -> None:
    """Find out, once per layer, whether halves give what the whole gives, on two rows of noise."""
    new = [layer for layer in layers if layout.layers[layer] not in _halved]
    examples = _layer_arguments(layout) if new else None
    for index in new:
        layer = layout.layers[index]
        with as_it_was(layer):
            _halved[layer] = examples is not None and _agree(layer, examples[index])


@torch.no_grad()
def _agree(layer: nn.Module, example: dict[str, Any]) -> bool:
    states, mask = example["hidden_states"], example.get("attention_mask")
    kwargs = {name: example[name] for name in example if name != "hidden_states"}
    try:
        whole, half = Halves(layer, halved=False), Halves(layer, halved=True)
        made, again = (part.keys_and_values(states, kwargs) for part in (whole, half))
        if made is None or again is None or not all(map(torch.equal, made, again)):
            return False
        kwargs |= {"attention_mask": mask, "past_key_values": Given(None, made)}
        output = first_of(whole.queries(states, kwargs))
        with contextlib.ExitStack() as stack:
            for module, forward in half.replacements:
                stack.enter_context(patched(module, forward))
            return torch.equal(output, first_of(half.queries(states, kwargs)))
    except Exception:  # an attention of another build, which is no error
        return False


def _until_cache(
    forward: Forward, states: Tensor, kwargs: dict[str, Any]
) -> tuple[Tensor, ...] | None:
    """What a layer gives to its cache, at which it ends; None if it gives nothing."""
    try:
        forward(states, **{**kwargs, "attention_mask": None, "past_key_values": _Stop()})
    except Interrupt as stopped:
        return stopped.tensors
    return None


def _layer_arguments(layout: Layout) -> list[dict[str, Any]] | None:
    """The arguments of each layer in a pass of its decoder over two rows, which no layer computes.

    None if the decoder does not run on embeddings alone.
    """
    arguments: list[dict[str, Any]] = []

    def note(hidden_states: Tensor, **kwargs: Any) -> Tensor:
        arguments.append({"hidden_states": hidden_states, **kwargs, "past_key_values": None})
        return hidden_states

    noise = torch.linspace(
        -1, 1, 2 * int(layout.text_config.hidden_size), device=device_of(layout.layers[0])
    )
    try:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for layer in layout.layers:
                stack.enter_context(patched(layer, by_name(layer, note)))
            noise = noise.to(layout.decoder.dtype).view(1, 2, -1)  # type: ignore[arg-type]
            layout.decoder(inputs_embeds=noise, use_cache=False)
    except Exception:  # a decoder that needs more than embeddings, which is no error
        return None
    return arguments if len(arguments) == layout.n_layers else None


class _Stop:
    """A cache that ends the layer as soon as its keys and values are computed."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        raise Interrupt(keys, values)


class Given:
    """A cache that puts keys and values made before in place of those of the running layer."""

    def __init__(self, past: Any, keys_and_values: tuple[Tensor, ...]) -> None:
        self._past, self._given = past, keys_and_values

    def update(self, _: Tensor, __: Tensor, *args: Any, **kw: Any) -> tuple[Tensor, ...]:
        """All keys and values, those of `past` before those made before."""
        if self._past is None:
            return self._given
        held: tuple[Tensor, ...] = self._past.update(*self._given, *args, **kw)
        return held
