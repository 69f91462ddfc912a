"""Exact match: an answer is right if its normal form is that of a reference answer."""

from __future__ import annotations

from vlm_bridge.data import Item
from vlm_bridge.data.text_forms import normalise, transcript_words
from vlm_bridge.evaluate.scorers.protocol import Scorer


def is_correct(text: str, item: Item) -> bool | None:
    """Whether an answer and a label have the same `normalise`d form; None without label.

    Of several reference answers one is enough. A transcript is right if it has the same words,
    whatever its punctuation.
    """
    if item.answer is None:
        return None
    form = transcript_words if item.is_transcript else normalise
    return form(text) in [form(reference) for reference in item.references]


class Exact(Scorer):
    """Accuracy: 1 for an answer whose `normalise`d form is that of a reference, else 0.

    A transcript is compared by its words.

    Source:
        Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1, with our normal form.

    Example:
        >>> Exact().score("Black.", Item(None, "which colour?", "black"))
        1.0
    """

    name = "exact"
    claim = "1 if the normal form of the answer is that of a reference, else 0"
    source = "Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; our normal form"
    binary = True

    def score(self, text: str, item: Item) -> float | None:
        """1.0 if `is_correct`, else 0.0; None without a label."""
        right = is_correct(text, item)
        return None if right is None else float(right)
