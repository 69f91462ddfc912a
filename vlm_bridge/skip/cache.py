"""A cache layer with the keys of some tokens that reports the length of the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache, StaticLayer

from vlm_bridge.errors import BridgeError

#: Position of a key that fills up a ragged batch.
UNUSED = -1


class PartialLayer(DynamicLayer):
    """Keys and values of some tokens, with their positions in the full sequence.

    transformers reads lengths, positions and masks of the whole model from one cache layer, so
    every reported length counts absent tokens, too, as the replaced layer would.

    Attributes:
        positions: (batch, held) ascending positions of the held keys in the full sequence; `UNUSED`
            in slots that pad a ragged batch, the first slots of a pass; None before any pass.
        seen: length of the full sequence so far.
        full: no slot is `UNUSED`.
        window: keys a sliding layer attends to, the query's own included; None for other layers.
        room: length of the replaced static layer; 0 for other layers.
    """

    def __init__(self, *, window: int | None = None, room: int = 0) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.positions: Tensor | None = None
        self.seen, self.full, self.record_past = 0, True, False
        self.window, self.room = window, room
        self.is_sliding = window is not None
        # Masks of a static cache have a fixed size, as compiled code needs; this keeps it.
        self.is_compileable = room > 0
        self._expected: tuple[Tensor, int, bool] | None = None

    @classmethod
    def take_over(cls, cache: Cache, index: int) -> PartialLayer:
        """The partial layer of `cache` at `index`, which takes over an ordinary layer's keys."""
        while len(cache.layers) <= index:
            cache.layers.append(DynamicLayer())
        old = cache.layers[index]
        if isinstance(old, cls):
            return old
        static = old.max_cache_len if isinstance(old, StaticLayer) else 0
        window = getattr(old, "sliding_window", static) if old.is_sliding else None
        new = cls(window=window, room=static)
        new.record_past = getattr(old, "record_past", False)
        if seen := int(old.get_seq_length()):
            held = min(seen, old.keys.shape[-2])
            new.lazy_initialization(old.keys, old.values)
            new.keys, new.values, new.seen = old.keys[:, :, :held], old.values[:, :, :held], seen
            places = torch.arange(seen - held, seen, device=old.keys.device)
            new.positions = places.expand(len(old.keys), -1)
        cache.layers[index] = new
        return new

    def expect(self, positions: Tensor, length: int, full: bool) -> None:
        """Announce the next `update`: positions of all keys after it, tokens it adds, `full`."""
        self._expected = (positions, length, full)

    def advance(self, length: int) -> None:
        """Count `length` absent tokens."""
        self.seen += length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the announced keys; returns all held ones, those about to leave a window too."""
        if self._expected is None:
            raise BridgeError(
                "this cache was filled while some tokens were skipped; it cannot be used "
                "without that plan"
            )
        self.positions, length, self.full = self._expected
        self._expected = None
        self.seen += length
        held: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
        if not self.record_past:
            self._trim_to_window()
        return held

    def get_seq_length(self) -> int:
        """Length of the full sequence, absent tokens included."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset of a mask for the full sequence, as of the replaced layer."""
        offset = max(self.seen - self.window + 1, 0) if self.window else 0
        return max(self.seen + query_length - offset, self.room), offset

    def get_max_length(self) -> int:
        """Capacity of the replaced layer in tokens; -1 for no limit."""
        return self.room or self.window or -1

    def reset(self) -> None:
        """Empty the layer."""
        super().reset()
        self.positions, self.seen, self.full, self._expected = None, 0, True, None

    def activate_past_recording(self) -> None:
        """Retain keys that leave the window until the next `crop`, which may need them again."""
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens of the full sequence."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes a negative number of tokens, got {tokens_to_remove}")
        beyond = self.window is not None and self.seen >= self.window
        if tokens_to_remove and beyond and not self.record_past:
            raise RuntimeError(
                "a sliding layer that does not record its past cannot be cropped once its window "
                "is full; call `activate_past_recording` on the cache first"
            )
        self.seen = max(0, self.seen + tokens_to_remove)
        if tokens_to_remove and self.positions is not None:
            places = self.positions.masked_fill(self.positions >= self.seen, UNUSED)
            order = (places != UNUSED).to(torch.uint8).argsort(dim=1, stable=True)
            order = order[:, order.shape[1] - int((places != UNUSED).sum(1).max()) :]
            self.positions = places.gather(1, order)
            self.full = bool((self.positions != UNUSED).all())
            index = order[:, None, :, None]
            self.keys, self.values = (
                states.gather(2, index.expand(*states.shape[:2], -1, states.shape[3]))
                for states in (self.keys, self.values)
            )
        self._trim_to_window()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Select the sequences that a beam search continues."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence."""
        if self.positions is not None:
            sequences = torch.arange(len(self.positions), device=self.positions.device)
            self.batch_select_indices(sequences.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Select sequences, in this order."""
        if self.positions is not None:
            indices = indices.to(self.keys.device)
            self.keys, self.values = self.keys[indices], self.values[indices]
            self.positions = self.positions[indices]

    def _trim_to_window(self) -> None:
        # A pass has at most one slot per position and begins with its unused ones, so that
        # the last `window - 1` slots hold every key of the last `window - 1` positions.
        if self.window is not None and self.positions is not None:
            old = max(self.positions.shape[1] - self.window + 1, 0)
            self.positions = self.positions[:, old:]
            self.keys, self.values = self.keys[:, :, old:], self.values[:, :, old:]


_ATTENTION_CACHES = (
    DynamicLayer,
    StaticLayer,
    PartialLayer,
    cache_utils.DynamicSlidingWindowLayer,
    cache_utils.StaticSlidingWindowLayer,
)
#: Those of layers that only `block` can skip.
_OTHER_CACHES = (
    cache_utils.DynamicIndexedLayer,
    cache_utils.StaticIndexedLayer,
    cache_utils.LinearAttentionLayer,
    cache_utils.LinearAttentionAndFullAttentionLayer,
    cache_utils.LinearAttentionAndSlidingWindowAttentionLayer,
    cache_utils.LinearAttentionAndStaticFullAttentionLayer,
    cache_utils.LinearAttentionAndStaticSlidingWindowAttentionLayer,
    cache_utils.DummyLayer,
)


def check_cache(cache: Any, attends: Callable[[int], bool] = lambda _: True) -> None:
    """Raise a `BridgeError` for an offloaded or quantised cache, or a recurrent one of attention.

    `attends` says of a layer whether it is self-attention.
    """
    if cache is None:
        return
    if isinstance(cache, EncoderDecoderCache):
        check_cache(cache.self_attention_cache)
        check_cache(cache.cross_attention_cache)
        return
    if not isinstance(cache, Cache) or not hasattr(cache, "layers"):
        raise BridgeError(
            f"skipping needs a transformers Cache as past_key_values, got {type(cache).__name__}"
        )
    if cache.offloading:
        raise BridgeError(
            "an offloaded cache is not supported while layers are skipped; take one without "
            "offloading, as cache_implementation 'dynamic' or 'static'"
        )
    for index, layer in enumerate(cache.layers):
        others = () if attends(index) else _OTHER_CACHES
        if type(layer) not in (*_ATTENTION_CACHES, *others):
            raise BridgeError(
                f"cache layer {index} is a {type(layer).__name__}; skipping supports dynamic and "
                "static caches, sliding or not (cache_implementation 'dynamic' or 'static'), but "
                "no quantised ones, and recurrent ones only of layers that are recurrent"
            )


def check_cache_name(name: str) -> None:
    """Raise a `BridgeError` for a `cache_implementation` of caches that `check_cache` refuses."""
    if any(word in name for word in ("quantized", "offloaded")):
        raise BridgeError(
            f"cache_implementation '{name}' is not supported while layers are skipped; generate "
            "with 'dynamic' or 'static'"
        )


def placeholder(cache: Any, index: int, states: Tensor) -> tuple[Tensor, Tensor]:
    """Zero keys and values that add the tokens of `states` (batch, t, width) to a cache layer."""
    batch, length, _ = states.shape
    layers = getattr(cache, "layers", ())
    held = (states[:, None, :, :1],) * 2  # one head and channel unless the layer has another shape
    if index < len(layers) and layers[index].is_initialized and layers[index].keys.dim() == 4:
        held = layers[index].keys, layers[index].values
    keys, values = (states.new_zeros(batch, h.shape[1], length, h.shape[3]) for h in held)
    return keys, values
