"""CIDEr-D: n-grams of an answer that the references share and other texts do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vlm_bridge.data import Item, image_ids, items_hash, overlap, read_jsonl
from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.scorers.protocol import Scorer

#: Longest n-gram, and the standard deviation of the penalty of another length.
LONGEST, SIGMA = 4, 6.0
Gram = tuple[str, ...]


class Cider(Scorer):
    """CIDEr-D of one answer over 10, with document frequencies fixed in advance.

        score = (1/4) sum over n <= 4 of the mean over references r of
                min(g, g_r) . g_r / (|g| |g_r|) exp(-(l - l_r)^2 / (2 6^2))
        g_w = count of the n-gram w * log(D / max(1, documents with w))

    with l the number of words. CIDEr-D is 10 times that: it lies in [0, 10], its tenth in [0, 1].
    A text of fewer than 4 words has no 4-grams and reaches less than 1. Words are those of
    `transcript_words`, in place of the tokenizer of the source.

    Args:
        items: the references of each unit of these items are one of the D documents; take other
            images than those that are scored.
        name: of the scorer.

    Raises:
        BridgeError: fewer than two documents; items that are scored and share a unit with them.

    Source:
        Vedantam et al. 2015, arXiv 1411.5726, equations 1 to 4 and section 5 (CIDEr-D).

    Example:
        >>> others = [Item(None, f"what is in picture {i}?", f"a dog on grass {i}") for i in "12"]
        >>> item = Item(None, "what is in this one?", "two red cats in a box")
        >>> Cider(others).score("two red cats in a box", item)
        1.0
    """

    claim = (
        "CIDEr-D / 10, with the document frequencies of FILE, a JSONL file of questions with "
        "answers about other images"
    )
    source = "Vedantam et al. 2015, arXiv 1411.5726, section 5"

    def __init__(self, items: Iterable[Item], name: str = "cider:FILE") -> None:
        items = [item for item in items if item.references]
        documents: dict[str, set[Gram]] = {}
        for item in items:
            grams = documents.setdefault(item.cluster, set())
            for reference in item.references:
                grams.update(*_grams(transcript_words(reference)))
        if len(documents) < 2:
            raise BridgeError(
                f"{name} needs the references of at least 2 units for its document frequencies, "
                f"got {len(documents)}"
            )
        self.name = name
        self._images = image_ids(items)
        self._hash = items_hash(items) if name != "cider" else ""
        self._frequencies = Counter(gram for grams in documents.values() for gram in grams)
        self._log_documents = math.log(len(documents))

    @property
    def key(self) -> str:
        """Name, and hash of the documents."""
        return f"{self.name} {self._hash}"

    def of(self, items: Sequence[Item]) -> Scorer:
        """Itself, for items about other images than its documents."""
        if shared := overlap(items, self._images):
            raise BridgeError(
                f"{len(shared)} units of the document frequencies of {self.name} are scored, too "
                f"(as cluster {shown(shared[0])}); take its references from other images"
            )
        return self

    def score(self, text: str, item: Item) -> float | None:
        """The mean over the references; None without any."""
        if not item.references:
            return None
        said = transcript_words(text)
        pairs = [self._pair(said, transcript_words(each)) for each in item.references]
        return min(1.0, sum(pairs) / len(pairs))

    def _pair(self, said: Sequence[str], true: Sequence[str]) -> float:
        """The mean over n of the clipped cosines, with the penalty of another length."""
        cosines = 0.0
        for one, other in zip(_grams(said), _grams(true), strict=True):
            g, r = self._weights(one), self._weights(other)
            norms = math.sqrt(_square(g) * _square(r))
            if norms > 0.0:
                cosines += sum(min(g[w], r[w]) * r[w] for w in g.keys() & r.keys()) / norms
        return cosines / LONGEST * math.exp(-((len(said) - len(true)) ** 2) / (2.0 * SIGMA**2))

    def _weights(self, grams: Mapping[Gram, int]) -> dict[Gram, float]:
        frequencies, log_documents = self._frequencies, self._log_documents
        return {
            gram: count * (log_documents - math.log(max(1, frequencies[gram])))
            for gram, count in grams.items()
        }


class CorpusCider(Scorer):
    """CIDEr-D over 10, with the document frequencies of the very questions that are scored.

    The usual form. The score of an answer then depends on the other questions, so that its drop
    has no certificate; `Cider` with documents of other images has one.

    Source:
        As `Cider`.

    Example:
        >>> items = [Item(None, f"what is in picture {i}?", f"a dog on grass {i}") for i in "12"]
        >>> CorpusCider().of(items).score("a dog on grass 1", items[0])
        1.0
    """

    name = "cider"
    claim = "CIDEr-D / 10, with the document frequencies of all questions that are scored"
    source = Cider.source
    per_item = False

    def of(self, items: Sequence[Item]) -> Scorer:
        """The scorer with the document frequencies of `items`."""
        return _OfCorpus(items, self.name)

    def score(self, text: str, item: Item) -> float | None:
        """Refused: without the other questions there are no document frequencies."""
        raise BridgeError("cider scores all questions at once; call of(items) first, then score")


class _OfCorpus(Cider):
    """CIDEr-D with the document frequencies of the items that are scored."""

    per_item = False

    def of(self, items: Sequence[Item]) -> Scorer:
        return self


def cider_of_file(path: str) -> Cider:
    """CIDEr-D with the documents of a JSONL file of items that have `answer` or `answers`.

    Raises:
        BridgeError: as `read_jsonl` and `Cider`.
    """
    return Cider(read_jsonl(Path(path)), f"cider:{path}")


def _grams(words: Sequence[str]) -> list[Counter[Gram]]:
    """The n-grams of a text, for n = 1 to 4."""
    return [
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        for n in range(1, LONGEST + 1)
    ]


def _square(weights: Mapping[Gram, float]) -> float:
    return sum(weight * weight for weight in weights.values())
