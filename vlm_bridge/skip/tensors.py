"""Operations on hidden states, masks and layer outputs that the forms of a skip share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError


class Interrupt(Exception):
    """Ends a layer early, with the tensors that were computed by then."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.tensors = tensors


def states_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states with which a module was called."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def first_of(output: Any) -> Tensor:
    """The hidden states that a module returned, bare or first of a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def like(output: Any, states: Tensor) -> Any:
    """`states` in the form of `output`: bare, or first of a tuple."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


def causal(
    length: int, past: int | Tensor, keys: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Additive causal mask (1, 1, length, keys) of `length` queries from position `past` on."""
    queries = torch.arange(length, device=device) + past
    blocked = torch.arange(keys, device=device)[None, :] > queries[:, None]
    mask = torch.zeros(length, keys, dtype=dtype, device=device)
    return mask.masked_fill(blocked, torch.finfo(dtype).min)[None, None]


def causal_mask(states: Tensor, past: int) -> Tensor:
    """`causal` for queries (batch, length, width) after `past` keys."""
    length = states.shape[1]
    return causal(length, past, past + length, states.dtype, states.device)


def hide(mask: Tensor, hidden: Tensor) -> Tensor:
    """`mask`, boolean or additive, that also closes the `hidden` places."""
    if mask.dtype == torch.bool:
        return mask & ~hidden
    return mask.masked_fill(hidden, torch.finfo(mask.dtype).min)


def cut_rows(states: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (batch, k) of `states` (..., batch or 1, t, d) for every sequence."""
    states = states.expand(*states.shape[:-3], len(index), *states.shape[-2:])
    return states[..., torch.arange(len(index), device=index.device)[:, None], index, :]


def cut_queries(mask: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (batch, k) of a mask (batch or 1, heads or 1, t, keys)."""
    return cut_rows(mask.transpose(0, 1), index).transpose(0, 1)


def check_mask(mask: object, index: int) -> None:
    """Raise a `BridgeError` unless the mask is (batch or 1, heads or 1, queries, keys)."""
    if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 4):
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise BridgeError(
            f"layer {index} got an attention mask of shape {shape}; skipping needs one of "
            "(batch, heads, queries, keys), as sdpa and eager attention have"
        )


def cut_keywords(
    kwargs: dict[str, Any], index: Tensor, length: int, share: Callable[..., Tensor]
) -> dict[str, Any]:
    """A layer's keyword arguments, but mask and cache, for rows `index` (batch, k) of `length`.

    `share` is `PassState.share`. Other tensors (batch or 1, length) or (batch or 1, length, d) have
    a row per token; a tensor with `length` elsewhere, or a mask, is a `BridgeError`.
    """
    cut = dict(kwargs)
    if (parts := kwargs.get("position_embeddings")) is not None:
        cut["position_embeddings"] = tuple(share(cut_rows, part, index) for part in parts)
    if (positions := kwargs.get("position_ids")) is not None:
        cut["position_ids"] = share(_cut_positions, positions, index)
    known = {"position_embeddings", "position_ids", "attention_mask", "hidden_states"}
    for name, value in kwargs.items():
        if name not in known and isinstance(value, Tensor) and length in value.shape[1:]:
            if "mask" in name or value.dim() > 3 or value.shape[1] != length:
                raise BridgeError(
                    f"a decoder layer takes '{name}' of shape {tuple(value.shape)}, which cannot "
                    "be cut to some rows"
                )
            cut[name] = share(_cut_positions if value.dim() == 2 else cut_rows, value, index)
    return cut


def _cut_positions(positions: Tensor, index: Tensor) -> Tensor:
    return cut_rows(positions[..., None], index)[..., 0]


def probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """(batch, heads, queries, keys) attention probabilities in float32, as in eager attention.

    `query` is (batch, heads, queries, width), `key` (batch, key-value heads, keys, width), `mask`
    (batch or 1, heads or 1, queries, keys), boolean or additive; None is causal, and the last
    query sees all keys. `scaling` is 1/sqrt(width) by default; `softcap` is c of c tanh(score/c).
    """
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query.float() @ key.float().transpose(-1, -2)) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = causal_mask(query[:, 0].float(), key.shape[2] - query.shape[2])
    if mask.dtype == torch.bool:
        return hide(scores, ~mask).softmax(-1)
    return (scores + mask.float()).softmax(-1)


def without_rows(output: Any, rows: Tensor) -> Any:
    """An output whose states are zero in `rows` (batch, length) bool."""
    states = first_of(output)
    return like(output, states.masked_fill(rows.to(states.device)[..., None], 0.0))


def zeroed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Zeros in place of an output, and of the attention weights that come with it."""
    output = forward(*args, **kwargs)
    if isinstance(output, tuple):
        return tuple(torch.zeros_like(x) if isinstance(x, Tensor) else x for x in output)
    return torch.zeros_like(output)
