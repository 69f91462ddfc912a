"""ROUGE-L: words of an answer that stand in a reference in the same order."""

from __future__ import annotations

from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.evaluate.scorers.edit_distances import PACKAGE, distances
from vlm_bridge.evaluate.scorers.protocol import BestOfReferences
from vlm_bridge.evaluate.scorers.token_f1 import f1


class RougeL(BestOfReferences):
    """F1 of the longest common subsequence of words, with the best reference.

        score = max over references of 2 l / (m + n)

    with l the length of that subsequence of the m and n words, in folded case, without
    punctuation and stemming. Where one side has no word, 1 if neither has one, else 0.

    Raises:
        MissingExtra: rapidfuzz is not installed.

    Source:
        Lin 2004, "ROUGE: a package for automatic evaluation of summaries", section 3, beta = 1.

    Example:
        >>> RougeL().pair("police kill the gunman", "police killed the gunman")
        0.75
    """

    name = "rouge-l"
    claim = "F1 of the longest common subsequence of words, with the best reference"
    source = "Lin 2004, ROUGE, section 3, beta = 1"
    needs = PACKAGE

    def pair(self, text: str, reference: str) -> float:
        """The F1 with one reference."""
        said, true = transcript_words(text), transcript_words(reference)
        if not said or not true:
            return float(said == true)
        return f1(distances(self.name).LCSseq.similarity(said, true), said, true)
