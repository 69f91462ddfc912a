"""How sure an answer is, from the logits of the model that gave it."""

from __future__ import annotations

import torch

from vlm_bridge.evaluate.answers import Generated, end_ids
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.token_signal import token_signal


def signals_of(vlm: VLM, made: Generated, signal: str, over: str) -> list[float]:
    """The signal `margin`, `entropy` or `confidence` of every answer: larger is surer.

    With `over` "answer" the least of the answer's tokens, its end included; with "first" that of
    the first token. Padding behind the end of an answer does not count.
    """
    steps = made.logits[:1] if over == "first" else made.logits
    of_steps = torch.stack([token_signal(logits, signal) for logits in steps], dim=1).tolist()
    ends = end_ids(vlm)

    def least(ids: list[int], values: list[float]) -> float:
        """The least signal up to the first end of an answer."""
        length = next((place for place, token in enumerate(ids, 1) if token in ends), len(ids))
        return min(values[:length])

    # Lists, since so few numbers are slower as tensors.
    return [least(ids, values) for ids, values in zip(made.ids.tolist(), of_steps, strict=True)]


def agreements(vlm: VLM, made: Generated, second: Generated, over: str) -> list[float]:
    """1.0 where two plans give the same answer, or the same first token, else 0.0."""
    if over == "first":
        return (made.ids[:, 0] == second.ids[:, 0]).double().tolist()
    pairs = zip(made.texts(vlm), second.texts(vlm), strict=True)
    return [float(a == b) for a, b in pairs]
