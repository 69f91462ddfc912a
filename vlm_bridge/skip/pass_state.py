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
        # The positions if the sequences of the batch lie one behind another.
        first = torch.arange(len(wanted), device=wanted.device) * length
        self._places = (self.index + first[:, None]).flatten()

    def __len__(self) -> int:
        return self.index.shape[1]

    def gather(self, states: Tensor) -> Tensor:
        """The rows (batch, k, d) of `states` (batch, t, d)."""
        rows = states.flatten(0, 1).index_select(0, self._places)
        return rows.view(*self.index.shape, states.shape[-1])

    def scatter(self, into: Tensor, rows: Tensor) -> Tensor:
        """A copy of `into` (batch, t, d) with `rows` (batch, k, d) at the valid positions."""
        if not self.full:
            rows = torch.where(self.valid[..., None], rows, self.gather(into))
        whole = into.flatten(0, 1).index_copy(0, self._places, rows.flatten(0, 1))
        return whole.view(into.shape)

    def among_zeros(self, rows: Tensor, length: int) -> Tensor:
        """Zeros (batch, length, d) with `rows` (batch, k, d) at the valid positions."""
        if not self.full:
            rows = rows.masked_fill(~self.valid[..., None], 0.0)
        batch, _, width = rows.shape
        whole = rows.new_zeros(batch * length, width)
        return whole.index_copy_(0, self._places, rows.flatten(0, 1)).view(batch, length, width)


def _moved(rows: Rows, device: torch.device) -> Rows:
    moved = copy.copy(rows)
    moved.index, moved.valid = rows.index.to(device), rows.valid.to(device)
    moved._places = rows._places.to(device)
    return moved


class Stage:
    """What one stage of pruning keeps of the modality tokens of a pass.

    Attributes:
        counts: number of modality positions per sequence that it keeps.
        quota: (batch, 1) `counts` on the device.
    """

    def __init__(self, modality: Tensor, counts: Sequence[int], share: float) -> None:
        """`modality` (batch, t) bool with the row sums `counts`; `share` of them stays."""
        self._modality = modality
        self.counts = [max(min(count, 1), round(count * share)) for count in counts]
        self._dropped = [all_ - kept for all_, kept in zip(counts, self.counts, strict=True)]
        self.quota = modality.new_zeros(len(modality), 1, dtype=torch.long)
        if any(counts):  # a pass of text alone, such as decoding, copies nothing to the device
            self.quota = torch.tensor(self.counts, device=modality.device)[:, None]
        self._flags: Tensor | None = None

    @property
    def flags(self) -> Tensor:
        """(batch, t) bool, the positions that it keeps; refused until it has chosen."""
        if self._flags is None:
            raise BridgeError(
                "token pruning reads its score in the layer before its first, and that layer "
                "did not run in this pass"
            )
        return self._flags

    @flags.setter
    def flags(self, chosen: Tensor) -> None:
        self._flags = chosen.to(self._modality.device)

    @cached_property
    def kept(self) -> Rows:
        """The modality positions that stay."""
        return Rows(self.flags, self.counts)

    @cached_property
    def text_and_kept(self) -> Rows:
        """Positions of text and of the modality tokens that stay."""
        length = self._modality.shape[1]
        return Rows(
            ~(self._modality & ~self.flags), [length - dropped for dropped in self._dropped]
        )


class PassState:
    """One forward pass: its modality positions, and results that its layers share.

    Values that the host needs are read from the device here, once, so that no layer waits for it.

    Attributes:
        flags: (batch, t) bool, True where a position holds a modality token.
        counts: number of modality positions per sequence.
        last: (batch, 1) position of each sequence's last token that is not padding.
        real: (batch, t) bool, False on padding.
        word_counts: number of text tokens per sequence, if a stage of pruning chooses in this pass.
        stages: what the stages of pruning keep.
        received: (batch, t) attention that each modality position received in the vision encoder,
            if a selector reads it.
    """

    def __init__(
        self,
        flags: Tensor,
        *,
        counts: Sequence[int] | None = None,
        last: Tensor | None = None,
        real: Tensor | None = None,
        keep: Sequence[float] = (),
    ) -> None:
        """`keep` has the share of modality positions that each stage of pruning keeps."""
        self.flags, self.length = flags, flags.shape[1]
        self.counts = flags.sum(1).tolist() if counts is None else list(counts)
        end = flags.new_full((len(flags), 1), self.length - 1, dtype=torch.long)
        self.last = end if last is None else last
        self.real = torch.ones_like(flags) if real is None else real
        self.word_counts = [0] * len(flags)
        if keep and self.has_modality:
            self.word_counts = (self.real & ~flags).sum(1).tolist()
        self.stages = [Stage(flags, self.counts, share) for share in keep]
        self.received: Tensor | None = None
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

    def rows(self, which: str, device: torch.device, stage: int = 0) -> Rows:
        """The rows of `text`, of `modality` tokens, or of text and those `kept`, on `device`.

        `words` are text without padding, `open` the modality tokens among which a `stage` of
        pruning chooses.
        """
        if which == "kept":
            rows = self.stages[stage].text_and_kept
        elif which == "open":
            rows = self.stages[stage - 1].kept if stage else self.modality
        else:
            rows = getattr(self, which)
        return rows if rows.index.device == device else self.share(_moved, rows, device)

    def absent(self, tokens: str, stage: int = 0) -> Tensor:
        """(batch, t) bool: positions that do not exist in a layer with these `tokens`."""
        if tokens == "text" or not self.has_modality:
            return self.flags
        return self.flags & ~self.stages[stage].flags

    def last_there(self, stage: int) -> Tensor:
        """(batch, 1) position of the last token that exists before a stage of pruning."""
        if stage == 0:
            return self.last
        places = torch.arange(self.length, device=self.flags.device)
        there = ~self.absent("kept", stage - 1) & (places <= self.last)
        return (there * places).argmax(1, keepdim=True)

    def open(self, stage: int) -> Tensor:
        """(batch, t) bool: the modality positions among which a stage of pruning chooses."""
        return self.stages[stage - 1].flags if stage else self.flags

    def within_kept(self, stage: int) -> PassState:
        """This pass as seen by a layer that runs on text and kept modality tokens only."""
        return self.share(_within, self.flags, self.stages[stage].text_and_kept, *self.counts)

    def share(self, make: Callable[..., T], *inputs: Any) -> T:
        """`make(*inputs)`, computed once per pass for all layers that ask for it."""
        key = (make, *(id(x) if isinstance(x, Tensor | Rows) else x for x in inputs))
        if key not in self._shared:  # keeps the inputs alive, so that no id is used twice
            self._shared[key] = (inputs, make(*inputs))
        result: T = self._shared[key][1]
        return result


def _within(flags: Tensor, rows: Rows, *counts: int) -> PassState:
    # A padding slot holds a dropped position, so it counts as a modality token.
    inside = [len(rows) - flags.shape[1] + count for count in counts]
    return PassState(flags.gather(1, rows.index), counts=inside)


def pass_states_of(cache: Any) -> list[tuple[int, PassState]]:
    """(start, pass) of every pass recorded for `cache`; copies of the cache carry it."""
    log: list[tuple[int, PassState]] = cache.__dict__.setdefault("_skipit_pass_states", [])
    return log
