"""Accuracy of guessing without the image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from estimators import Estimate, clustered_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import is_correct, normalise


def blind_answers(training: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """The most frequent training answer to the same question text.

    Answers are counted in their `normalise`d form. A question absent from training gets the most
    frequent answer of all; ties go alphabetically.

    Raises:
        BridgeError: no training item has an answer.
    """
    per_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall = _counts(training)
    for item in training:
        if item.answer is not None:
            per_question[item.question][normalise(item.answer)] += 1
    return [_most_frequent(per_question.get(item.question) or overall) for item in items]


def majority_answers(training: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """The most frequent training answer of all, for every question; errors as `blind_answers`."""
    return [_most_frequent(_counts(training))] * len(items)


def _counts(training: Sequence[Item]) -> Counter[str]:
    counts = Counter(normalise(item.answer) for item in training if item.answer is not None)
    if not counts:
        raise BridgeError("a baseline without the image needs training items with answers")
    return counts


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


def accuracy(texts: Sequence[str], items: Sequence[Item]) -> Estimate:
    """Share of correct answers to the labelled items; equal weight and interval by image."""
    judged = [(is_correct(text, item), item) for text, item in zip(texts, items, strict=True)]
    labelled = [(float(value), item.cluster) for value, item in judged if value is not None]
    if not labelled:
        raise BridgeError(f"accuracy needs items with an answer; none of {len(items)} has one")
    values, clusters = zip(*labelled, strict=True)
    return clustered_mean(values, clusters, bounds=(0, 1), unit="1")
