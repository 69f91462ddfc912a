"""Text and vision states of every layer, and the attention's loss without vision keys (S8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_attention, capturing_states
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, token_masks, tracked

#: Estimates from fewer images are too noisy to compare layers.
FEWEST_IMAGES = 20


@dataclass(frozen=True, eq=False)
class CapturedStates:
    """One pass over all questions, one row each; states run from 0 to L, the final output.

    Attributes:
        answers: (n,) token ids of the model's own first answer tokens.
        removal: (n, L) mean over heads of `a |o_V - o_T| / |o|` at the last token.
        bound: (n, L) mean over heads of `a diam(values) / |o|`.
        last: state -> (n, width) of the last token.
        vision: state -> (n, width), mean over vision tokens.
    """

    answers: NDArray[np.int64]
    removal: Floats
    bound: Floats
    last: dict[int, Floats] = field(default_factory=dict)
    vision: dict[int, Floats] = field(default_factory=dict)


@torch.no_grad()
def last_token_states(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L + 1, n_items, width): state l is the input of layer l, state L the last layer's output."""
    by_state: dict[int, Floats] = {}
    for batch in tracked(vlm, items, batch_size, "states at the last token"):
        places = list(batch.places)

        def on_state(state: int, states: Tensor, places: list[int] = places) -> None:
            rows = states[:, -1].double().cpu().numpy()  # prompts are padded on the left
            by_state.setdefault(state, np.empty((len(items), rows.shape[1])))[places] = rows

        with capturing_states(vlm, each_state(on_state)):
            first_logits(vlm, batch)
    return np.stack([by_state[state] for state in sorted(by_state)])


@torch.no_grad()
def capture_states(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> CapturedStates:
    """Capture text and vision states of at least `FEWEST_IMAGES` images in one forward pass."""
    check_reads_prompt(vlm, "states of modality tokens")
    if (n_images := len({item.cluster for item in items})) < FEWEST_IMAGES:
        raise BridgeError(
            f"probes on captured states need at least {FEWEST_IMAGES} {unit_word(items)}, "
            f"got {n_images}"
        )
    n, n_layers = len(items), vlm.layout.n_layers
    zeros = np.zeros((n, n_layers))
    captured = CapturedStates(np.zeros(n, dtype=np.int64), zeros, zeros.copy())
    for batch in tracked(vlm, items, batch_size, "states and values"):
        _capture_batch(vlm, batch, captured)
    return captured


def each_state(on_state: Callable[[int, Tensor], None]) -> Callable[[int, Tensor, Tensor], None]:
    """A hook on layers that passes on every state once: the first input and all outputs."""

    def hook(layer: int, before: Tensor, after: Tensor) -> None:
        if layer == 0:
            on_state(0, before)
        on_state(layer + 1, after)

    return hook


def _capture_batch(vlm: VLM, batch: Batch, captured: CapturedStates) -> None:
    places = list(batch.places)
    vision, real = token_masks(vlm, batch)
    share = vision.float() / vision.sum(-1, keepdim=True).clamp(min=1)
    values: dict[int, Tensor] = {}

    def store(to: dict[int, Floats], state: int, rows: Tensor) -> None:
        empty: NDArray[Any] = np.zeros((len(captured.answers), rows.shape[-1]), dtype=np.float32)
        to.setdefault(state, empty)[places] = rows.float().cpu().numpy()

    def on_state(state: int, states: Tensor) -> None:
        store(captured.last, state, states[:, -1])
        mean = torch.einsum("bt,btd->bd", share.to(states.device), states.float())
        store(captured.vision, state, mean)

    def on_attention(layer: int, weights: Tensor) -> None:
        change, bound = removal(weights[:, :, -1], values.pop(layer).float(), vision, real)
        captured.removal[places, layer] = change.mean(-1).double().cpu().numpy()
        captured.bound[places, layer] = bound.mean(-1).double().cpu().numpy()

    last = torch.full((len(places), 1), vision.shape[1] - 1)
    with (
        capturing_states(vlm, each_state(on_state)),
        capturing_attention(vlm, on_attention, last.to, values.__setitem__),
    ):
        captured.answers[places] = first_logits(vlm, batch).argmax(-1).cpu().numpy()


def removal(weights: Tensor, values: Tensor, vision: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Change of a query's heads without vision keys, and its bound by S8: (batch, heads) each.

    `a |o_V - o_T| / |o|` and `a diam(values) / |o|`, with o the head's output. `weights` (batch,
    heads, keys) are the query's attention, `values` (batch, key-value heads, keys, width); `real`
    (batch, keys) is False on padding.
    """
    values = values.repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
    seen = vision.to(weights.device)[:, None, :]
    mass = (weights * seen).sum(-1)
    tiny = torch.finfo(weights.dtype).tiny

    def mean(part: Tensor) -> Tensor:
        share = part / part.sum(-1, keepdim=True).clamp(min=tiny)
        return torch.einsum("bhk,bhkd->bhd", share, values)

    gap = mean(weights * seen) - mean(weights * ~seen)
    apart = torch.cdist(values, values)
    keys = real.to(weights.device)
    pairs = (keys[:, :, None] & keys[:, None, :])[:, None]
    mass = mass / torch.einsum("bhk,bhkd->bhd", weights, values).norm(dim=-1).clamp(min=tiny)
    return mass * gap.norm(dim=-1), mass * apart.masked_fill(~pairs, 0.0).amax((-1, -2))
