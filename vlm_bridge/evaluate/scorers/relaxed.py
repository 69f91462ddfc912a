"""Relaxed accuracy: a number may differ by 5 %, other text must be equal."""

from __future__ import annotations

import math
import re

from vlm_bridge.data.text_forms import normalise
from vlm_bridge.evaluate.scorers.protocol import BestOfReferences

#: Largest relative difference of a right number.
TOLERANCE = 0.05
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?%?", re.ASCII | re.IGNORECASE)


class RelaxedAccuracy(BestOfReferences):
    """1 for a number within 5 % of a reference, or the `normalise`d form of one, else 0.

        score = 1 if |x - y| <= 0.05 |y| for two numbers, x the answer and y the reference

    A percentage is a hundredth of its number. A reference 0 must be met in its spelling.

    Source:
        Methani et al. 2020, arXiv 1909.00997; Masry et al. 2022, arXiv 2203.10244, section 5.1.

    Example:
        >>> [RelaxedAccuracy().pair(text, "40") for text in ("42", "42.1", "about 40")]
        [1.0, 0.0, 0.0]
    """

    name = "relaxed"
    claim = "1 if a number is within 5 % of a reference, or other text has its normal form, else 0"
    source = "Masry et al. 2022, arXiv 2203.10244, section 5.1"
    binary = True

    def pair(self, text: str, reference: str) -> float:
        """1.0 if the answer is right by one reference, else 0.0."""
        x, y = _number(text), _number(reference)
        if x is not None and y:
            # One part in 10^12 more, since 5 % of a decimal number is no binary one.
            return float(abs(x - y) <= TOLERANCE * abs(y) * (1 + 1e-12))
        return float(normalise(text) == normalise(reference))


def _number(text: str) -> float | None:
    """The number that a whole text is, or None."""
    word = text.strip()
    if not _NUMBER.fullmatch(word):
        return None
    number = float(word[:-1]) / 100.0 if word.endswith("%") else float(word)
    return number if math.isfinite(number) else None
