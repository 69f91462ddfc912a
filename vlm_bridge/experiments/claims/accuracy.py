"""Accuracy of a model on test images, and of baselines without the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import Item
from vlm_bridge.evaluate.baselines import accuracy, blind_answers, majority_answers
from vlm_bridge.evaluate.outcomes import Outcomes


@dataclass(frozen=True)
class Accuracies(Record):
    """Accuracy on test images; intervals by image. All None without labels.

    Attributes:
        model: share of first answer tokens that begin the true answer.
        blind: accuracy of the most frequent training answer to the same question text.
        majority: accuracy of the most frequent training answer to any question.
    """

    model: Estimate | None
    blind: Estimate | None
    majority: Estimate | None

    @classmethod
    def of(cls, outcomes: Outcomes, training: Sequence[Item]) -> Accuracies:
        """From the outcomes of any plan on the test images, which hold the full model's answers."""
        items, model = outcomes.items, accuracy_of(outcomes)
        if model is None or all(item.answer is None for item in training):
            return cls(model, None, None)
        blind, majority = blind_answers(training, items), majority_answers(training, items)
        return cls(model, accuracy(blind, items), accuracy(majority, items))


def accuracy_of(outcomes: Outcomes) -> Estimate | None:
    """The full model's accuracy at the first answer token, of labelled questions; None without."""
    labelled = outcomes.labelled
    if labelled is None:
        return None
    right: Any = labelled.correct_full
    return clustered_mean(right, labelled.clusters, bounds=(0, 1))
