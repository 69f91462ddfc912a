"""The state of a forward pass: which positions hold modality tokens, computed once per pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError

T = TypeVar("T")


class Rows:
    """Some positions of every sequence of a batch.

    Attributes:
        index: (batch, k) ascending positions, k the largest count in the batch; a sequence with
            fewer starts with unwanted positions as padding.
        valid: (batch, k) bool, False on padding.
        full: no slot is padding.
    """

    def __init__(self, wanted: Tensor, counts: Sequence[int]) -> None:
        """`wanted` (batch, t) bool; `counts` its row sums, which the host already knows."""
        width, length = max(counts), wanted.shape[1]
        order = torch.argsort(wanted.to(torch.uint8), dim=1, stable=True)
        self.index = order[:, length - width :]
        self.valid = wanted.gather(1, self.index)
        self.full = min(counts) == width

    def __len__(self) -> int:
        return self.index.shape[1]

    def scatter(self, into: Tensor, rows: Tensor) -> Tensor:
        """A copy of `into` (batch, t, d) with `rows` (batch, k, d) at the valid positions."""
        sequence = torch.arange(len(into), device=into.device)[:, None]
        if not self.full:
            rows = torch.where(self.valid[..., None], rows, into[sequence, self.index])
        whole = into.clone()
        whole[sequence, self.index] = rows
        return whole


def _moved(rows: Rows, device: torch.device) -> Rows:
    moved = copy.copy(rows)
    moved.index, moved.valid = rows.index.to(device), rows.valid.to(device)
    return moved


class PassState:
    """One forward pass: its modality positions, and results that its layers share.

    Values that the host needs are read from the device here, once, so that no layer waits for it.

    Attributes:
        flags: (batch, t) bool, True where a position holds a modality token.
        counts: number of modality positions per sequence.
        last: (batch, 1) position of each sequence's last token that is not padding.
        real: (batch, t) bool, False on padding.
        word_counts: number of text tokens per sequence, if token pruning chooses in this pass.
        kept_counts: number of modality positions per sequence that token pruning keeps.
        quota: (batch, 1) `kept_counts` on the device.
        kept_flags: (batch, t) bool, those positions; None until token pruning has chosen.
    """

    def __init__(
        self,
        flags: Tensor,
        *,
        counts: Sequence[int] | None = None,
        last: Tensor | None = None,
        real: Tensor | None = None,
        keep: float | None = None,
    ) -> None:
        self.flags, self.length = flags, flags.shape[1]
        self.counts = flags.sum(1).tolist() if counts is None else list(counts)
        end = flags.new_full((len(flags), 1), self.length - 1, dtype=torch.long)
        self.last = end if last is None else last
        self.real = torch.ones_like(flags) if real is None else real
        self.word_counts = [0] * len(flags)
        self.kept_counts = [0] * len(flags)
        self.quota = torch.zeros_like(self.last)
        if keep is not None and self.has_modality:
            self.kept_counts = [max(min(count, 1), round(count * keep)) for count in self.counts]
            self.quota = torch.tensor(self.kept_counts, device=flags.device)[:, None]
            self.word_counts = (self.real & ~flags).sum(1).tolist()
        self.kept_flags: Tensor | None = None
        self._shared: dict[Any, tuple[Any, Any]] = {}

    @property
    def has_modality(self) -> bool:
        """Some position of this pass holds a modality token."""
        return any(self.counts)

    @cached_property
    def text(self) -> Rows:
        """Positions that hold no modality token."""
        return Rows(~self.flags, [self.length - count for count in self.counts])

    @cached_property
    def words(self) -> Rows:
        """Positions of text without padding, in a pass in which token pruning chooses."""
        return Rows(self.real & ~self.flags, self.word_counts)

    @cached_property
    def modality(self) -> Rows:
        """Positions that hold modality tokens."""
        return Rows(self.flags, self.counts)

    @cached_property
    def text_and_kept(self) -> Rows:
        """Positions of text and of the modality tokens that token pruning keeps."""
        dropped = map(int.__sub__, self.counts, self.kept_counts)
        return Rows(~self.absent("kept"), [self.length - count for count in dropped])

    def rows(self, which: str, device: torch.device) -> Rows:
        """The rows of `text`, `words`, `modality`, or of text and those `kept`, on `device`."""
        rows: Rows = getattr(self, "text_and_kept" if which == "kept" else which)
        return rows if rows.index.device == device else self.share(_moved, rows, device)

    def absent(self, tokens: str) -> Tensor:
        """(batch, t) bool: positions that do not exist in a layer with these `tokens`."""
        if tokens == "text" or not self.has_modality:
            return self.flags
        if self.kept_flags is None:
            raise BridgeError(
                "token pruning reads its score in the layer before its first, and that layer "
                "did not run in this pass"
            )
        return self.flags & ~self.kept_flags

    @cached_property
    def within_kept(self) -> PassState:
        """This pass as seen by a layer that runs on text and kept modality tokens only."""
        rows = self.text_and_kept
        # A padding slot holds a dropped position, so it counts as a modality token.
        counts = [len(rows) - self.length + count for count in self.counts]
        return PassState(self.flags.gather(1, rows.index), counts=counts)

    def share(self, make: Callable[..., T], *inputs: Any) -> T:
        """`make(*inputs)`, computed once per pass for all layers that ask for it."""
        key = (make, *(id(x) if isinstance(x, Tensor | Rows) else x for x in inputs))
        if key not in self._shared:  # keeps the inputs alive, so that no id is used twice
            self._shared[key] = (inputs, make(*inputs))
        result: T = self._shared[key][1]
        return result


def pass_states_of(cache: Any) -> list[tuple[int, PassState]]:
    """(start, pass) of every pass recorded for `cache`; copies of the cache carry it."""
    log: list[tuple[int, PassState]] = cache.__dict__.setdefault("_skipit_pass_states", [])
    return log
