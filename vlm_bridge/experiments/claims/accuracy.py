"""How well a model answers untouched questions, beside what is known without the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, majority_answers
from vlm_bridge.evaluate.outcomes import Outcomes


@dataclass(frozen=True)
class Accuracies(Record):
    """Accuracy on untouched images and its baselines; intervals by image.

    Attributes:
        model: share of first answer tokens that begin the true answer; None without labels.
        blind: of the most frequent training answer to the same question text, as is `majority`.
        majority: of the most frequent training answer of all.
    """

    model: Estimate | None
    blind: Estimate | None
    majority: Estimate | None

    @classmethod
    def of(cls, outcomes: Outcomes, training: Sequence[Item]) -> Accuracies:
        """From the outcomes of any plan on the test images: the full model's answers are there."""
        items = outcomes.items
        model = accuracy_of(outcomes)
        if model is None or all(item.answer is None for item in training):
            return cls(model, None, None)
        return cls(
            model,
            accuracy(blind_answers(training, items), items),
            accuracy(majority_answers(training, items), items),
        )


def accuracy_of(outcomes: Outcomes) -> Estimate | None:
    """The full model's accuracy at the first answer token; None without labels."""
    if outcomes.correct_full is None:
        return None
    return clustered_mean(outcomes.correct_full, outcomes.clusters, bounds=(0, 1))
