"""End greedy answers early: where they cannot become a given text any more, or at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from vlm_bridge.model.vlm import VLM

#: What a tokenizer shows of bytes that are no character, or not yet.
_NO_CHARACTER = "\ufffd"


class Diverged(StoppingCriteria):
    """Whether each row of one call of `generate` has left its text.

    A row has left if its text so far, without special tokens, cannot begin the given text, so that
    it differs from it however it goes on; every other row ends where it would have ended.
    See `has_left`.

    Args:
        vlm: whose tokenizer reads the tokens.
        texts: one for each row.
    """

    def __init__(self, vlm: VLM, texts: Sequence[str]) -> None:
        self._vlm, self._texts, self._steps = vlm, tuple(texts), 0

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(rows,) of `input_ids`, which are longer by one token in every call."""
        self._steps += 1
        new = input_ids[:, -self._steps :]
        made = self._vlm.tokenizer.batch_decode(new, skip_special_tokens=True)
        left = [has_left(words, text) for words, text in zip(made, self._texts, strict=True)]
        return torch.tensor(left, device=input_ids.device)


def ended(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
    """A stopping criterion that ends every row at its first token: the prompts are read alone."""
    return torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)


def has_left(words: str, text: str) -> bool:
    """Whether a text of which more tokens come cannot become `text`.

    White space does not count, since a tokenizer may take it away from before a mark that follows.
    What is behind the first byte that is no character does not count, since more bytes may make it
    one. A `text` with such a byte is never left: a tokenizer may show all bytes around it that way.

    Example:
        >>> has_left("a blue", "a red circle"), has_left("a red", "a red circle")
        (True, False)
    """
    if _NO_CHARACTER in text:
        return False
    certain = words.split(_NO_CHARACTER)[0]
    return not "".join(text.split()).startswith("".join(certain.split()))
