"""Token F1: the harmonic mean of precision and recall of the words of an answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from vlm_bridge.evaluate.scorers.protocol import BestOfReferences

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


class TokenF1(BestOfReferences):
    """F1 of the words of an answer and those of the best reference, each as often as it stands.

        score = max over references of 2 c / (m + n),  c the common words of m and n

    Lower case, without ASCII punctuation and the articles a, an, the. Where one side has no word,
    1 if neither has one, else 0.

    Source:
        Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1.

    Example:
        >>> TokenF1().pair("the quick brown fox", "A brown fox.")
        0.8
    """

    name = "token-f1"
    claim = "F1 of the words of the answer and of the best reference"
    source = "Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1"

    def pair(self, text: str, reference: str) -> float:
        """The F1 with one reference."""
        said, true = _words(text), _words(reference)
        if not said or not true:
            return float(said == true)
        common = sum((Counter(said) & Counter(true)).values())
        return f1(common, said, true)


def f1(common: int, said: Sequence[str], true: Sequence[str]) -> float:
    """F1 of two lists of words with so many in common; one of them is not empty.

    Example:
        >>> f1(1, ["red"], ["red", "blue", "green"])
        0.5
    """
    return 2.0 * common / (len(said) + len(true))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()
