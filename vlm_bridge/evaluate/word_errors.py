"""Wrong words of a transcript, and their rate over recordings."""

from __future__ import annotations

from collections.abc import Sequence

from estimators import Estimate, clustered_ratio
from vlm_bridge.data import Item
from vlm_bridge.data.text_forms import transcript_words


def wrong_words(said: Sequence[str], true: Sequence[str]) -> int:
    """Fewest words to insert, delete or replace to turn `said` into `true`.

    Source:
        Levenshtein 1966; the numerator of the word error rate.

    Example:
        >>> wrong_words("the cat sat down".split(), "a cat sat".split())
        2
    """
    row = list(range(len(true) + 1))
    for i, word in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(true, start=1):
            kept = before + (word != other)
            before = row[j]
            row[j] = min(kept, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def word_errors(text: str, item: Item) -> float | None:
    """Wrong words in the transcript of an item; None if its label is no transcript."""
    if not item.is_transcript or item.answer is None:
        return None
    return float(wrong_words(transcript_words(text), transcript_words(item.answer)))


def word_error_rate(errors: Sequence[float | None], items: Sequence[Item]) -> Estimate | None:
    """Wrong words over spoken words of all transcripts, with interval by unit.

    `errors` are those of each item, None where there is no transcript. None if no item has one, or
    all are of one unit, which has no interval.
    """
    pairs = [(e, item) for e, item in zip(errors, items, strict=True) if e is not None]
    if len({item.cluster for _, item in pairs}) < 2:
        return None
    lengths = [len(transcript_words(item.answer or "")) for _, item in pairs]
    return clustered_ratio([e for e, _ in pairs], lengths, [item.cluster for _, item in pairs])
