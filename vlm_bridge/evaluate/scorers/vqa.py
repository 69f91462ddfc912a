"""VQA accuracy: an answer counts as far as up to three people gave it."""

from __future__ import annotations

from vlm_bridge.data import Item
from vlm_bridge.data.text_forms import normalise
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.scorers.protocol import Scorer

#: Fewest reference answers of a question: below, no answer can reach 1.
FEWEST = 4


class VqaAccuracy(Scorer):
    """Soft accuracy against the answers of several people, mostly ten.

        score = mean over i of min(1, matches among the answers but the i-th / 3)

    Two answers match if their `normalise`d forms are equal. The official evaluation has lists of
    contractions and number words in place of that form.

    Raises:
        BridgeError: a question with 1 to 3 reference answers, where no answer can reach 1.

    Source:
        Antol et al. 2015, arXiv 1505.00468, section 3; leave-one-out as in its evaluation code.

    Example:
        >>> item = Item(None, "which colour?", answers=["red"] * 2 + ["blue"] * 8)
        >>> VqaAccuracy().score("blue", item), VqaAccuracy().score("red", item)
        (1.0, 0.6)
    """

    name = "vqa"
    claim = "mean over leave-one-out sets of human answers of min(1, matches / 3)"
    source = "Antol et al. 2015, arXiv 1505.00468, section 3"

    def score(self, text: str, item: Item) -> float | None:
        """The mean over the people left out; None without reference answers."""
        n = len(item.references)
        if not n:
            return None
        if n < FEWEST:
            raise BridgeError(
                f"vqa compares with the answers of several people, at least {FEWEST}; {item.name} "
                f"has {n}: give all in 'answers', or use exact"
            )
        said = normalise(text)
        matches = [normalise(reference) == said for reference in item.references]
        total = sum(matches)
        return sum(min(3, total - match) for match in matches) / (3 * n)
