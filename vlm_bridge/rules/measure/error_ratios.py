"""How a small error of the first states grows or shrinks in every layer, from two passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, token_masks, tracked
from vlm_bridge.rules.measure.states import each_state
from vlm_bridge.skip.tensors import states_of

#: Length of the noise, as a share of the length of each token's state.
STEP = 0.01


@torch.no_grad()
def error_ratios(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(n_items, L) ratio of the relative error of a layer's output to that of its input.

    The second pass has Gaussian noise on the input of layer 0, `STEP` of each token's length, the
    same for the same prompt in any batch.
    """
    check_reads_prompt(vlm, "errors by layer")
    ratios = np.empty((len(items), vlm.layout.n_layers))
    for batch in tracked(vlm, items, batch_size, "errors by layer"):
        real = token_masks(vlm, batch)[1]
        before = _states(vlm, batch)
        handle = vlm.layout.layers[0].register_forward_pre_hook(
            lambda _, args, kwargs, real=real: _disturbed(args, kwargs, real), with_kwargs=True
        )
        try:
            after = _states(vlm, batch)
        finally:
            handle.remove()
        pairs = zip(before, after, strict=True)
        errors = torch.stack([_relative(a, b, real) for a, b in pairs], dim=1)
        ratios[list(batch.places)] = (errors[:, 1:] / errors[:, :-1]).double().cpu().numpy()
    return ratios


def _states(vlm: VLM, batch: Batch) -> list[Tensor]:
    """States 0 to L of one pass."""
    kept: dict[int, Tensor] = {}
    with capturing_states(vlm, each_state(kept.__setitem__)):
        first_logits(vlm, batch)
    return [kept[state] for state in sorted(kept)]


def _disturbed(args: Any, kwargs: Any, real: Tensor) -> tuple[Any, Any]:
    """The arguments of layer 0 with noise on its states, drawn token by token from the end."""
    states = states_of(args, kwargs)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(states.shape[1], states.shape[2], generator=generator).flip(0)
    noise = nn.functional.normalize(noise, dim=-1).to(states)
    length = states.float().norm(dim=-1, keepdim=True).to(states)
    moved = states + STEP * length * noise * real.to(states)[..., None]
    if args:
        return (moved, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": moved}


def _relative(before: Tensor, after: Tensor, real: Tensor) -> Tensor:
    """(batch,) `|after - before| / |before|` over the tokens that are not padding."""
    rows = real.to(before.device)[..., None]
    tiny = torch.finfo(torch.float32).tiny
    error, length = (
        torch.linalg.vector_norm((states.float() * rows).flatten(1), dim=1).clamp(min=tiny)
        for states in (after - before, before)
    )
    ratio: Tensor = error / length
    return ratio
