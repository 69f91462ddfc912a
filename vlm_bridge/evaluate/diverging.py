"""End a greedy answer as soon as it cannot become a given text any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from vlm_bridge.model.vlm import VLM

#: What a tokenizer shows of a character whose last bytes are still to come.
_UNFINISHED = "\ufffd"


class Diverged(StoppingCriteria):
    """Whether each row of one call of `generate` has left its text.

    The text of a row so far is that of its tokens, without special ones and outer white space. It
    has left if it does not begin the given text. So a row that ends by this differs from its text,
    and every other row ends where it would have ended.

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
        pairs = zip(self._texts, made, strict=True)
        left = [not text.startswith(so_far(words)) for text, words in pairs]
        return torch.tensor(left, device=input_ids.device)


def so_far(words: str) -> str:
    """The certain part of a text of which more tokens come."""
    return words.strip().rstrip(_UNFINISHED).rstrip()
