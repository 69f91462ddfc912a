"""SparseVLM (Zhang et al. 2024, arXiv 2410.04417): tokens that relevant words attend to."""

from __future__ import annotations

import torch
from torch import Tensor

from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.tensors import cut_rows


@torch.no_grad()
def relevant_text(states: Tensor, now: PassState, stage: int) -> tuple[Tensor, Tensor]:
    """(batch, k) positions of text and of the last token, and their weights (batch, k).

    The words are the text tokens after the first modality token. The relevance of word w is the
    mean over modality tokens v that are there of `softmax_w <h_v, h_w>`. Words above the mean
    relevance rate, all alike; if none is above, all words rate. Without words the last token rates.
    """
    device = states.device
    text, modality = now.rows("text", device), now.rows("open", device, stage)
    last, flags = now.last.to(device), now.flags.to(device)
    first = flags.to(torch.uint8).argmax(1, keepdim=True)
    words = text.valid & (text.index > first) & (text.index <= last)
    seen = cut_rows(states, modality.index).float()
    inner = seen @ cut_rows(states, text.index).float().transpose(1, 2)
    shares = inner.masked_fill(~words[:, None], torch.finfo(inner.dtype).min).softmax(-1)
    counts = modality.valid.sum(1, keepdim=True).clamp(min=1)
    relevance = (shares * modality.valid[..., None]).sum(1) / counts
    relevance = relevance.masked_fill(~words, 0.0)
    n_words = words.sum(1, keepdim=True)
    raters = words & (relevance > relevance.sum(1, keepdim=True) / n_words.clamp(min=1))
    raters = torch.where(raters.any(1, keepdim=True), raters, words)
    weights = torch.cat([raters, n_words == 0], dim=1).float()
    there = now.last_there(stage).to(device)
    return torch.cat([text.index, there], dim=1), weights / weights.sum(1, keepdim=True)
