"""ANLS: similarity of spelling, 0 where half of the letters or more differ."""

from __future__ import annotations

from vlm_bridge.evaluate.scorers.edit_distances import PACKAGE, distances
from vlm_bridge.evaluate.scorers.protocol import BestOfReferences

#: Normalised distance from which on an answer counts as wrong.
THRESHOLD = 0.5


class Anls(BestOfReferences):
    """Average normalised Levenshtein similarity, of the best reference.

        score = max over references of 1 - d if d < 0.5 else 0,
        d = Levenshtein distance / length of the longer text

    of lower-case texts with single spaces. Recognition errors cost a little, other answers all.

    Raises:
        MissingExtra: rapidfuzz is not installed.

    Source:
        Biten et al. 2019, arXiv 1905.13648, equation 1.

    Example:
        >>> Anls().pair("Coca Cole", "coca cola"), Anls().pair("pepsi", "coca cola")
        (0.8888888888888888, 0.0)
    """

    name = "anls"
    claim = "1 - normalised edit distance to the best reference, 0 from distance 0.5 on"
    source = "Biten et al. 2019, arXiv 1905.13648, equation 1"
    needs = PACKAGE

    def pair(self, text: str, reference: str) -> float:
        """The similarity to one reference."""
        distance = distances(self.name).Levenshtein.normalized_distance(
            _plain(text), _plain(reference)
        )
        return 1.0 - distance if distance < THRESHOLD else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
