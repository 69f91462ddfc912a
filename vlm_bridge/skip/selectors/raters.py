"""Raters: the tokens whose attention scores modality tokens, and how much each of them counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vlm_bridge.plan.selectors import FASTV
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.selectors.sparsevlm import relevant_text

#: (input states (batch, t, width) of the layer, pass, stage of pruning) -> (batch, k) query
#: positions to read, and (batch, k) their weights, at least 0, which sum to 1.
Raters = Callable[[Tensor, PassState, int], tuple[Tensor, Tensor]]


def last_token(states: Tensor, now: PassState, stage: int) -> tuple[Tensor, Tensor]:
    """FastV (Chen et al. 2024, arXiv 2403.06764): the last token that is there, alone."""
    last = now.last_there(stage).to(states.device)
    return last, torch.ones(last.shape, device=states.device)


#: The raters of every selector that reads attention.
RATERS: dict[str, Raters] = {FASTV: last_token, "sparsevlm": relevant_text}
