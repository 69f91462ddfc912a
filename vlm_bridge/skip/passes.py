"""Which positions of the forward pass now running hold vision, found once per pass."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.layout import Layout


class Rows:
    """The positions of one kind (text, or vision) in every sequence of a batch.

    Attributes:
        index: (batch, k) positions, k the largest count in the batch. A sequence with fewer
            fills its last slots with positions of the other kind.
        valid: (batch, k) bool, False on those filled slots.
        full: no slot is filled.
    """

    def __init__(self, wanted: Tensor) -> None:
        counts = wanted.sum(1)
        width = int(counts.max())
        order = torch.argsort((~wanted).to(torch.uint8), dim=1, stable=True)
        self.index = order[:, :width]
        self.valid = torch.arange(width, device=wanted.device) < counts[:, None]
        self.full = bool(self.valid.all())

    def __len__(self) -> int:
        return self.index.shape[1]

    def scatter(self, into: Tensor, rows: Tensor) -> Tensor:
        """A copy of `into` (batch, t, d) with `rows` (batch, k, d) at the valid positions."""
        index = self.index[..., None].expand(rows.shape)
        if not self.full:
            rows = torch.where(self.valid[..., None], rows, into.gather(1, index))
        return into.scatter(1, index, rows)


class VisionPass:
    """One forward pass: its vision flags and, computed when first asked for, its rows."""

    def __init__(self, flags: Tensor) -> None:
        self.flags = flags

    @cached_property
    def has_vision(self) -> bool:
        """Some position of this pass holds vision."""
        return bool(self.flags.any())

    @cached_property
    def text(self) -> Rows:
        """Positions that do not hold vision."""
        return Rows(~self.flags)

    @cached_property
    def vision(self) -> Rows:
        """Positions that hold vision."""
        return Rows(self.flags)


class PassTracker:
    """Follows the passes of a model through a hook on its base module.

    A position is vision only if its id is a vision id **and** the pass carries pixels: an
    image id that the model itself generated is text.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._current: VisionPass | None = None
        self._history: weakref.WeakKeyDictionary[Any, Tensor] = weakref.WeakKeyDictionary()

    @property
    def current(self) -> VisionPass:
        """The pass now running.

        Raises:
            BridgeError: the decoder was called past the hook, so vision is unknown.
        """
        if self._current is None:
            raise BridgeError(
                "the decoder was called directly while layers are skipped; call the model, so "
                "that vision positions can be told from input_ids"
            )
        return self._current

    def begin(self, flags: Tensor, cache: object | None = None) -> None:
        """Start a pass with these vision flags, (batch, length) bool."""
        self._current = VisionPass(flags)
        if cache is not None:
            seen = self._history.get(cache)
            length = int(cache.get_seq_length())  # type: ignore[attr-defined]
            if seen is None or length == 0:
                seen = flags.new_zeros(len(flags), length)
            self._history[cache] = torch.cat([seen[:, :length], flags], dim=1)

    def key_flags(self, cache: object | None) -> Tensor:
        """(batch, past + length) bool: vision flags of every key the pass can see."""
        if cache is None:
            return self.current.flags
        # A cache the decoder made itself, after the hook ran, has seen this pass only.
        return self._history.setdefault(cache, self.current.flags)

    def install(self, module: nn.Module) -> Any:
        """Hook `module` (the VLM's base); returns the handle to remove."""
        return module.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise BridgeError(
                "while layers are skipped the model must be called with input_ids, not only "
                "inputs_embeds: vision positions are told from the ids"
            )
        flags = self._layout.vision_flags(ids)
        if not _carries_vision(kwargs):
            flags = torch.zeros_like(flags)
        self.begin(flags, kwargs.get("past_key_values"))


def _carries_vision(kwargs: dict[str, Any]) -> bool:
    if any(k.startswith("pixel_values") and v is not None for k, v in kwargs.items()):
        return True
    encoded = kwargs.get("mm_encoder_outputs") or {}
    return any(encoded.get(kind) is not None for kind in ("image", "video"))
