"""What the first layers of the full model make of some prompts: kept from one run for another."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.inputs import kind_of, modality_inputs
from vlm_bridge.skip.patching import Forward, by_name, forward_of, patched
from vlm_bridge.skip.sublayers import returns_tuple
from vlm_bridge.skip.tensors import states_of

#: Cache layers that hold all keys, as long as no window has cut them.
_WHOLE_CACHES = (DynamicLayer, DynamicSlidingWindowLayer)
#: Inputs with one row for each prompt; others, such as grids of images, have one for each image.
_BY_PROMPT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}


@dataclass
class Prefix:
    """States and keys of the first layers of the full model, of a batch of left-padded prompts.

    A plan leaves the layers before its first touched one as they are, so that a run under it gives
    these, and a run under another plan, or of the full model, starts behind them.

    Attributes:
        length: tokens of the prompts, padding included.
        states: layer -> (rows, length, width), the input of that layer.
        keys: keys and values (rows, heads, length, channels) of layer 0, 1, ..., as far as known.
    """

    length: int
    states: dict[int, Tensor] = field(default_factory=dict)
    keys: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def depth(self, most: int) -> int | None:
        """The deepest layer, up to `most`, at which a run can start; None if at none."""
        known = [at for at in self.states if at <= min(most, len(self.keys))]
        return max(known, default=None)

    def rows(self, rows: Sequence[int]) -> Prefix:
        """The prefix of some of the prompts."""
        places = list(rows)
        states = {at: kept[places] for at, kept in self.states.items()}
        keys = [(key[places], value[places]) for key, value in self.keys]
        return Prefix(self.length, states, keys)

    def learn_keys(self, cache: Any, most: int) -> None:
        """Keep the keys of the prompts in layers before `most`, of the cache of a run.

        A layer whose cache has lost keys (sliding windows), or is of another kind, ends it.
        """
        for index, layer in enumerate(getattr(cache, "layers", ())[:most]):
            whole = type(layer) in _WHOLE_CACHES and layer.is_initialized
            if not whole or layer.keys.shape[-2] != layer.get_seq_length():
                return
            if index >= len(self.keys):
                held = (layer.keys, layer.values)
                self.keys.append((held[0][:, :, : self.length], held[1][:, :, : self.length]))


def inputs_of_rows(
    inputs: dict[str, Tensor], rows: Sequence[int], vlm: VLM, depth: int
) -> dict[str, Tensor] | None:
    """The inputs of some rows for a run that starts at `depth`, without pixels and sounds.

    None where that cannot be: an input of images or sounds in a batch without exactly one of them
    in each row, or a decoder that adds vision features behind `depth` (DeepStack), which come with
    the pixels.
    """
    if any(layer >= depth for layer in vlm.layout.deepstack_layers):
        return None
    dropped = modality_inputs(inputs)
    left = {
        name: value
        for name, value in inputs.items()
        if name not in dropped and "pixel" not in name.split("_")
    }
    return _some_rows(left, rows, dropped, vlm)


def complete_inputs_of_rows(
    inputs: dict[str, Tensor], rows: Sequence[int], vlm: VLM
) -> dict[str, Tensor] | None:
    """The inputs of some rows for a run from the beginning, with their pixels and sounds.

    None where that cannot be: an input that has not one entry for each row, such as patches of all
    images, or a batch of images or sounds without exactly one of them in each row.
    """
    return _some_rows(inputs, rows, modality_inputs(inputs), vlm)


def _some_rows(
    inputs: dict[str, Tensor], rows: Sequence[int], features: Collection[str], vlm: VLM
) -> dict[str, Tensor] | None:
    ids = inputs["input_ids"]
    if any(len(value) != len(ids) for value in inputs.values()):
        return None
    if not inputs.keys() <= _BY_PROMPT and not _in_each_row(ids, features, vlm):
        return None
    return {name: value[list(rows)] for name, value in inputs.items()}


def _in_each_row(ids: Tensor, names: Collection[str], vlm: VLM) -> bool:
    """Whether each row holds tokens of every kind of features that come with the batch.

    Then n entries, one for each image, are one in each of n rows.
    """
    return all(
        bool(vlm.layout.modality_flags(ids, [kind]).any(1).all())
        for kind in {kind_of(name) for name in names}
    )


@contextlib.contextmanager
def recording(vlm: VLM, prefix: Prefix, depths: Collection[int]) -> Iterator[None]:
    """Keep the input of the layers `depths` in the first prefill of the block, if not known yet.

    Later passes of as many tokens are steps of decoding, if prompts have one token. Passes of other
    threads are not of these prompts.
    """
    owner = get_ident()

    def keep(depth: int, _: nn.Module, args: Any, kwargs: Any) -> None:
        states = states_of(args, kwargs)
        known = depth in prefix.states
        if not known and states.shape[1] == prefix.length and get_ident() == owner:
            prefix.states[depth] = states

    with contextlib.ExitStack() as handles:
        for depth in sorted(set(depths) - set(prefix.states)):
            layer = vlm.layout.layers[depth]
            handle = layer.register_forward_pre_hook(partial(keep, depth), with_kwargs=True)
            handles.callback(handle.remove)
        yield


@contextlib.contextmanager
def resuming(vlm: VLM, prefix: Prefix, depth: int) -> Iterator[None]:
    """Prefills of the block start at layer `depth`, from `prefix`; later passes run all layers.

    Layers before `depth` give their keys to the cache and compute nothing. A pass is a prefill if
    the cache is empty at the layer; a pass without cache cannot be resumed. Other threads, which
    may run the full model at the same time, run all layers.
    """
    layout, owner = vlm.layout, get_ident()
    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(layout.layers[: depth + 1]):
            recall = partial(_recall, index, forward_of(layer), prefix, index < depth, owner)
            as_tuple = returns_tuple(layer, int(layout.text_config.hidden_size))
            stack.enter_context(patched(layer, by_name(layer, recall, as_tuple=as_tuple)))
        yield


def _recall(
    index: int,
    forward: Forward,
    prefix: Prefix,
    known: bool,
    owner: int,
    hidden_states: Tensor,
    **options: Any,
) -> Any:
    """A layer of a resumed prefill: its keys alone if its output is known, else its known input."""
    cache = options.get("past_key_values")
    if cache is None or cache.get_seq_length(index) or get_ident() != owner:
        return forward(hidden_states, **options)
    if known:
        cache.update(*(held.to(hidden_states.device) for held in prefix.keys[index]), index)
        return hidden_states
    return forward(prefix.states[index].to(hidden_states.device), **options)
