"""How sure an answer is, from the logits of the model that gave it."""

from __future__ import annotations

import torch
from torch import Tensor

from vlm_bridge.evaluate.answers import Generated, ends_answer
from vlm_bridge.model.vlm import VLM


def signals_of(vlm: VLM, made: Generated, signal: str, over: str) -> list[float]:
    """The signal `margin` or `entropy` of every answer: larger is surer.

    With `over` "answer" the least of the answer's tokens, its end included; with "first" that of
    the first token. Padding behind the end of an answer does not count.
    """
    steps = made.logits[:1] if over == "first" else made.logits
    of_tokens = torch.stack([token_signal(logits, signal) for logits in steps], dim=1)
    ends = ends_answer(vlm, made.ids[:, : len(steps)]).long()
    behind = ends.cumsum(1) - ends > 0  # tokens after the first end
    least: list[float] = of_tokens.masked_fill(behind, torch.inf).amin(1).tolist()
    return least


def token_signal(logits: Tensor, signal: str) -> Tensor:
    """(n,) signal of one token each, from (n, vocabulary) logits.

        margin    log p(1) - log p(2), of the two likeliest tokens
        entropy   sum p log p

    Example:
        >>> logits = torch.tensor([[2.0, 0.5, -9.0]])
        >>> token_signal(logits, "margin").item()
        1.5
    """
    if signal == "margin":
        first, second = logits.float().topk(2, dim=-1).values.unbind(-1)
        return first - second
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    return (log_probs.exp() * log_probs).sum(-1)


def agreements(vlm: VLM, made: Generated, second: Generated, over: str) -> list[float]:
    """1.0 where two plans give the same answer, or the same first token, else 0.0."""
    if over == "first":
        return (made.ids[:, 0] == second.ids[:, 0]).double().tolist()
    pairs = zip(made.texts(vlm), second.texts(vlm), strict=True)
    return [float(a == b) for a, b in pairs]
