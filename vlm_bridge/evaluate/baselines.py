"""Accuracy of guessing without the image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from estimators import Estimate, clustered_mean
from vlm_bridge.data import Item, about_other
from vlm_bridge.data.text_forms import transcript_words
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import is_correct, normalise


def blind_answers(training: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """The most frequent training answer to the same question text: the guess of who sees nothing.

    A question that training does not ask gets the most frequent training answer among those that
    its own text offers ("which is it, a dress, a bag or a coat?"), of questions with the same first
    word if there are any; if its text offers none, the most frequent answer to those questions, and
    at last the most frequent of all. Answers are counted in their `normalise`d form; ties go
    alphabetically.

    Raises:
        BridgeError: no training item has an answer.
    """
    per_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
    per_form: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall = _counts(training)
    for item in training:
        if item.answer is not None:
            per_question[item.question][normalise(item.answer)] += 1
            per_form[_first_word(item.question)][normalise(item.answer)] += 1

    def counts(question: str) -> Counter[str]:
        if question in per_question:
            return per_question[question]
        form = per_form.get(_first_word(question)) or overall
        words = f" {' '.join(transcript_words(question))} "
        offered = {
            answer: count
            for answer, count in form.items()
            if f" {' '.join(transcript_words(answer))} " in words
        }
        return Counter(offered) or form

    by_text = {question: counts(question) for question in {item.question for item in items}}
    return [_most_frequent(by_text[item.question]) for item in items]


def _first_word(question: str) -> str:
    return next(iter(transcript_words(question)), "")


def with_other_inputs(items: Sequence[Item]) -> list[Item]:
    """The same questions and labels about another image or recording: that of the next unit.

    A model that is right no more often than on these does not use what it is shown. All questions
    of a unit are about the first file of the next one, whose unit they then are.

    Raises:
        BridgeError: one unit only, or texts alone.

    Example:
        >>> from pathlib import Path
        >>> two = [Item(Path(f"{name}.png"), "what?", name, name) for name in "ab"]
        >>> [(item.image.name, item.answer) for item in with_other_inputs(two)]
        [('b.png', 'a'), ('a.png', 'b')]
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.cluster, item)
    if len(first) < 2 or any(not item.files for item in first.values()):
        raise BridgeError("another input needs two images or recordings, in two units")
    units = list(first)
    donors = {unit: first[other] for unit, other in zip(units, [*units[1:], units[0]], strict=True)}
    return [about_other(item, donors[item.cluster]) for item in items]


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
