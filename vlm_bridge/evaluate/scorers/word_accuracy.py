"""Word accuracy: 1 minus the word error rate of an answer, at least 0."""

from __future__ import annotations

from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.scorers.protocol import BestOfReferences
from vlm_bridge.evaluate.word_errors import wrong_words


class WordAccuracy(BestOfReferences):
    """1 minus the word error rate of one answer, clipped so that it lies in [0, 1].

        score = max over references of 1 - min(1, wrong words / words of the reference)

    Wrong words are those to insert, delete or replace. The mean over answers weighs each the same,
    whatever its length, unlike the word error rate of `compare`, a ratio of sums.

    Raises:
        BridgeError: a reference without a word.

    Source:
        Levenshtein 1966; Morris et al. 2004 on word error rates above 1.

    Example:
        >>> WordAccuracy().pair("the cat sat", "a cat sat down")
        0.5
        >>> WordAccuracy().pair("no no no no no", "yes")
        0.0
    """

    name = "word-accuracy"
    claim = "1 - min(1, wrong words / words of the reference), of the best reference"
    source = "Levenshtein 1966; the word error rate of one answer, clipped at 1"

    def pair(self, text: str, reference: str) -> float:
        """The word accuracy against one reference."""
        true = transcript_words(reference)
        if not true:
            raise BridgeError(
                f"the reference answer {shown(reference)} holds no word, so that it has no word "
                "error rate; leave it out, or use exact"
            )
        return 1.0 - min(1.0, wrong_words(transcript_words(text), true) / len(true))
