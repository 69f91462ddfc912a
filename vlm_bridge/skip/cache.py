"""A cache layer that holds keys of some tokens only, yet reports the whole sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from vlm_bridge.errors import BridgeError

#: Position of a key that fills up a ragged batch.
UNUSED = -1


class PartialLayer(DynamicLayer):
    """Keys and values of some tokens, with the position each had in the full sequence.

    transformers reads lengths, positions and masks of the whole model from one
    representative cache layer, so everything here that reports a length counts the tokens
    that are not held, too, and keeps reporting what the layer it replaced would have.

    Attributes:
        positions: (batch, held) place of every held key in the full sequence, ascending, but
            `UNUSED` on slots that fill up a ragged batch; None before the first pass. The
            slots of a pass begin with its unused ones.
        seen: length of the full sequence so far.
        full: no slot is `UNUSED`.
        window: keys a sliding layer attends to, the query's own included; None without.
        room: length of the static layer that this one replaced; 0 otherwise.
    """

    def __init__(self, *, window: int | None = None, room: int = 0) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.positions: Tensor | None = None
        self.seen = 0
        self.full = True
        self.window, self.room = window, room
        self.is_sliding = window is not None
        # Masks of a static cache are built as for compiling; they must stay so.
        self.is_compileable = room > 0
        self.record_past = False
        self._expected: tuple[Tensor, int, bool] | None = None

    @classmethod
    def take_over(cls, cache: Cache, index: int) -> PartialLayer:
        """The partial layer of `cache` at `index`; an ordinary one is replaced, keys kept."""
        while len(cache.layers) <= index:
            cache.layers.append(DynamicLayer())
        old = cache.layers[index]
        if isinstance(old, cls):
            return old
        static = old.max_cache_len if isinstance(old, StaticLayer) else 0
        window = getattr(old, "sliding_window", static) if old.is_sliding else None
        new = cls(window=window, room=static)
        new.record_past = getattr(old, "record_past", False)
        seen = int(old.get_seq_length())
        if seen:
            held = min(seen, old.keys.shape[-2])
            new.lazy_initialization(old.keys, old.values)
            new.keys, new.values = old.keys[:, :, :held], old.values[:, :, :held]
            new.seen = seen
            places = torch.arange(seen - held, seen, device=old.keys.device)
            new.positions = places.expand(len(old.keys), -1)
        cache.layers[index] = new
        return new

    def expect(self, positions: Tensor, length: int, full: bool) -> None:
        """Announce the next `update`: positions of all keys after it, how far it grows."""
        self._expected = (positions, length, full)

    def advance(self, length: int) -> None:
        """The sequence grows by `length` tokens of which none is held."""
        self.seen += length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the announced keys; returns all that are held, old ones of a window too."""
        if self._expected is None:
            raise BridgeError(
                "this cache was filled while vision tokens were skipped; it cannot be used "
                "without that plan"
            )
        self.positions, length, self.full = self._expected
        self._expected = None
        self.seen += length
        found: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
        if not self.record_past:
            self._drop_what_left_the_window()
        return found

    def get_seq_length(self) -> int:
        """Length of the full sequence, tokens that are not held included."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset of a mask for the full sequence, as the replaced layer's."""
        offset = max(self.seen - self.window + 1, 0) if self.window else 0
        return max(self.seen + query_length - offset, self.room), offset

    def get_max_length(self) -> int:
        """Most tokens the replaced layer held; -1 where there was no limit."""
        return self.room or self.window or -1

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.positions, self.seen, self.full, self._expected = None, 0, True, None

    def activate_past_recording(self) -> None:
        """Keep keys that leave the window until the next `crop`, which may bring them back."""
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last `-tokens_to_remove` tokens of the full sequence.

        Raises:
            ValueError: a positive number.
            RuntimeError: a window has dropped keys that would be needed again.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes a negative number of tokens, got {tokens_to_remove}")
        beyond = self.window is not None and self.seen >= self.window
        if tokens_to_remove and beyond and not self.record_past:
            raise RuntimeError(
                "a sliding layer that does not record its past cannot be cropped once its window "
                "is full; call `activate_past_recording` on the cache first"
            )
        self.seen = max(0, self.seen + tokens_to_remove)
        if self.positions is None:
            return
        if tokens_to_remove:
            places = self.positions.masked_fill(self.positions >= self.seen, UNUSED)
            order = (places != UNUSED).to(torch.uint8).argsort(dim=1, stable=True)
            used = int((places != UNUSED).sum(1).max())
            order = order[:, order.shape[1] - used :]
            self.positions = places.gather(1, order)
            self.full = bool((self.positions != UNUSED).all())
            index = order[:, None, :, None]
            self.keys = self.keys.gather(
                2, index.expand(*self.keys.shape[:2], -1, self.keys.shape[3])
            )
            self.values = self.values.gather(
                2, index.expand(*self.values.shape[:2], -1, self.values.shape[3])
            )
        self._drop_what_left_the_window()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow a beam search."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence."""
        if self.positions is not None:
            self.keys = self.keys.repeat_interleave(repeats, dim=0)
            self.values = self.values.repeat_interleave(repeats, dim=0)
            self.positions = self.positions.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences, in this order."""
        if self.positions is not None:
            indices = indices.to(self.keys.device)
            self.keys, self.values = self.keys[indices], self.values[indices]
            self.positions = self.positions[indices]

    def _drop_what_left_the_window(self) -> None:
        # A pass has at most one slot per position and begins with its unused ones, so that
        # the last `window - 1` slots hold every key of the last `window - 1` positions.
        if self.window is not None and self.positions is not None:
            old = max(self.positions.shape[1] - self.window + 1, 0)
            if old:
                self.positions = self.positions[:, old:]
                self.keys, self.values = self.keys[:, :, old:], self.values[:, :, old:]


_KNOWN = (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
    PartialLayer,
)


def check_cache(cache: Any) -> None:
    """Refuse caches that a skip cannot keep right, before anything is computed.

    Raises:
        BridgeError: quantised, offloaded, or with layers of a kind that is not supported.
    """
    if cache is None:
        return
    if not isinstance(cache, Cache) or not hasattr(cache, "layers"):
        raise BridgeError(
            f"skipping needs a transformers Cache as past_key_values, got {type(cache).__name__}"
        )
    if cache.offloading:
        raise BridgeError("an offloaded cache is not supported while layers are skipped")
    for index, layer in enumerate(cache.layers):
        if type(layer) not in _KNOWN:
            raise BridgeError(
                f"cache layer {index} is a {type(layer).__name__}; skipping supports dynamic and "
                "static caches, sliding or not, but no quantised or recurrent ones"
            )


def placeholder(cache: Any, index: int, states: Tensor) -> tuple[Tensor, Tensor]:
    """Zero keys and values that count `states` (batch, t, width) in layer `index` of `cache`.

    One head and one channel do, unless the layer holds keys of another shape already.
    """
    batch, length, _ = states.shape
    layers = getattr(cache, "layers", ())
    if index < len(layers) and layers[index].is_initialized and layers[index].keys.dim() == 4:
        held = layers[index].keys, layers[index].values
    else:
        held = (states[:, None, :, :1],) * 2
    shapes = [(batch, one.shape[1], length, one.shape[3]) for one in held]
    return states.new_zeros(shapes[0]), states.new_zeros(shapes[1])
