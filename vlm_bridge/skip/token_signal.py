"""How sure a model is of its next token, from its logits."""

from __future__ import annotations

import torch
from torch import Tensor


def token_signal(logits: Tensor, signal: str) -> Tensor:
    """(n,) signal of one token each, from (n, vocabulary) logits.

        margin      log p(1) - log p(2), of the two likeliest tokens
        entropy     sum p log p
        confidence  p(1) - p(2)

    Example:
        >>> logits = torch.tensor([[2.0, 0.5, -9.0]])
        >>> token_signal(logits, "margin").item()
        1.5
    """
    if signal == "margin":
        first, second = logits.float().topk(2, dim=-1).values.unbind(-1)
        return first - second
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    if signal == "confidence":
        first, second = log_probs.topk(2, dim=-1).values.exp().unbind(-1)
        return first - second
    return (log_probs.exp() * log_probs).sum(-1)
