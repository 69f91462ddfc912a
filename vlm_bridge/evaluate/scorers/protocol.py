"""What a scorer is: an answer and its question in, a number in [0, 1] out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from estimators.extras import require
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError

#: Methods of a certificate that count answers which are right or wrong.
_COUNTING = ("harm", "clopper-pearson")


class Scorer(ABC):
    """A score of one answer, in [0, 1], where 1 is best.

    Attributes:
        name: by which `find_scorer` finds it.
        claim: the score in one line.
        source: the publication that defines it.
        binary: whether it is 0 or 1 and nothing between.
        needs: a package of the extra `scoring` that it needs, or "".
        needs_labels: whether it needs reference answers.
        per_item: whether the score of an answer depends on its own question alone. Only then has
            the drop of its mean a certificate.
    """

    name: str
    claim: ClassVar[str]
    source: ClassVar[str]
    binary: ClassVar[bool] = False
    needs: ClassVar[str] = ""
    needs_labels: ClassVar[bool] = True
    per_item: bool = True

    @abstractmethod
    def score(self, text: str, item: Item) -> float | None:
        """The score of an answer to an item; None if the item has no reference answer."""

    def check_installed(self) -> None:
        """Raise a `MissingExtra` if the package that it needs is missing, before long work."""
        if self.needs:
            require(f"the scorer {self.name}", self.needs, "scoring")

    def of(self, items: Sequence[Item]) -> Scorer:
        """The scorer for these items; itself where the score depends on one item alone.

        Raises:
            BridgeError: items that it cannot score, which an empty answer to each shows.
        """
        for item in items:
            self.score("", item)
        return self

    @property
    def key(self) -> str:
        """Text that two scorers share if they give every answer the same score."""
        return self.name

    @property
    def settings(self) -> dict[str, str]:
        """What it adds to the key of a run: nothing for accuracy, which every run can have."""
        return {} if self.name == "exact" else {"scorer": self.key}


class BestOfReferences(Scorer):
    """A scorer that compares an answer with one reference, and takes the best of several."""

    @abstractmethod
    def pair(self, text: str, reference: str) -> float:
        """The score of an answer against one reference."""

    def score(self, text: str, item: Item) -> float | None:
        """The largest `pair` over the reference answers; None without any."""
        return max((self.pair(text, reference) for reference in item.references), default=None)


def certifiable(scorer: Scorer, items: Sequence[Item], method: str) -> Scorer:
    """The scorer for these items, if the drop of its mean has a certificate by `method`.

    Raises:
        BridgeError: a score that depends on several questions, one between 0 and 1 with a method
            that counts, or items that it cannot score.
    """
    if not scorer.per_item:
        raise BridgeError(
            f"the score {scorer.name} of an answer depends on the other questions, so its drop has "
            "no certificate by image; give cider:FILE, with the references of other images"
        )
    if method in _COUNTING and not scorer.binary:
        raise BridgeError(
            f"{method} counts answers that are right or wrong, {scorer.name} lies between; use "
            "betting or hoeffding"
        )
    return scorer.of(items)


def method_of_drop(scorer: Scorer, method: str) -> str:
    """The method that "auto" means for the drop of a mean score: one that counts nothing.

    Example:
        >>> from vlm_bridge.evaluate.scorers import find_scorer
        >>> [method_of_drop(find_scorer(name), "auto") for name in ("exact", "token-f1")]
        ['auto', 'betting']
    """
    return "betting" if method == "auto" and not scorer.binary else method
