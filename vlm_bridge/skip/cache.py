"""A cache layer that holds text keys only, yet reports the length of the whole sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from vlm_bridge.errors import BridgeError

UNUSED = -1


class TextOnlyLayer(DynamicLayer):
    """Keys and values of text tokens, with the position each had in the full sequence.

    transformers reads lengths, positions and masks of the whole model from one
    representative cache layer, so `get_seq_length` counts vision tokens too.

    Attributes:
        positions: (batch, kept) place of every kept key in the full sequence; `UNUSED` on
            the slots that fill up a ragged batch.
        seen: length of the full sequence so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.positions: Tensor | None = None
        self.seen = 0
        self._expected: tuple[Tensor, int] | None = None

    @classmethod
    def take_over(cls, cache: Cache, index: int) -> TextOnlyLayer:
        """The text-only layer of `cache` at `index`; an ordinary one is replaced, keys kept.

        Raises:
            BridgeError: the cache layer is of a kind whose keys cannot be taken over
                (static, sliding, quantised).
        """
        while len(cache.layers) <= index:
            cache.layers.append(DynamicLayer())
        old = cache.layers[index]
        if isinstance(old, cls):
            return old
        if type(old) is not DynamicLayer:
            raise BridgeError(
                f"cache layer {index} is a {type(old).__name__}; skipping vision tokens needs "
                "a DynamicCache without sliding, static or quantised layers"
            )
        new = cls()
        if old.is_initialized:
            new.lazy_initialization(old.keys, old.values)
            new.keys, new.values = old.keys, old.values
            batch, _, new.seen, _ = old.keys.shape
            new.positions = torch.arange(new.seen, device=old.keys.device).expand(batch, -1)
        cache.layers[index] = new
        return new

    def known_positions(self, batch: int, device: torch.device) -> Tensor:
        """Positions of the kept keys; (batch, 0) before the first."""
        if self.positions is None:
            return torch.empty(batch, 0, dtype=torch.long, device=device)
        return self.positions

    def expect(self, positions: Tensor, length: int) -> None:
        """Announce the next `update`: its keys' positions, and how far the sequence grows."""
        self._expected = (positions, length)

    def advance(self, length: int) -> None:
        """The sequence grows by `length` tokens of which none is text."""
        self.seen += length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the announced text keys."""
        if self._expected is None:
            raise BridgeError(
                "this cache was filled while vision tokens were skipped; it cannot be used "
                "without that plan"
            )
        positions, length = self._expected
        self._expected = None
        past = self.known_positions(len(key_states), key_states.device)
        self.positions = torch.cat([past, positions], dim=1)
        self.seen += length
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        return keys, values

    def get_seq_length(self) -> int:
        """Length of the full sequence, vision included."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Key length and offset of a full-length mask."""
        return self.seen + query_length, 0

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.positions, self.seen, self._expected = None, 0, None

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last `-tokens_to_remove` tokens of the full sequence."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes a negative number of tokens, got {tokens_to_remove}")
        self.seen = max(0, self.seen + tokens_to_remove)
        if self.positions is not None:
            self.positions = self.positions.masked_fill(self.positions >= self.seen, UNUSED)
            kept = (self.positions != UNUSED).any(0)
            self.positions = self.positions[:, kept]
            self.keys, self.values = self.keys[:, :, kept], self.values[:, :, kept]

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
            self.keys, self.values = self.keys[indices], self.values[indices]
            self.positions = self.positions[indices]
