"""The mean score of both models and its drop, by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estimators import Estimate, clustered_mean
from estimators.record import Record
from theory.certificates.certificate import counted
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.scorers import Scorer


@dataclass(frozen=True)
class ScoreOfPlan(Record):
    """A mean score of the full and the skipped model; every interval is by image.

    Attributes:
        scorer: name of the score, in [0, 1].
        n_questions: scored ones, which have a label.
        full, skipped: mean over images of the scores of the full and of the skipped model.
        drop: full - skipped, paired, in [-1, 1].
        per_item: whether the score of an answer depends on its own question alone; otherwise its
            drop has no certificate, and the intervals take the other questions as given.
    """

    scorer: str
    n_questions: int
    full: Estimate
    skipped: Estimate
    drop: Estimate
    per_item: bool

    @classmethod
    def of(cls, scorer: Scorer, outcomes: Outcomes) -> ScoreOfPlan | None:
        """Means over the questions with a label, by outcomes that `scorer` has scored, or None."""
        labelled = outcomes.labelled
        if labelled is None:
            return None
        clusters = labelled.clusters
        columns: Any = (labelled.correct_full, labelled.correct_skipped, labelled.drop)
        full, skipped, drop = (
            clustered_mean(values, clusters, bounds=(low, 1.0), unit="1")
            for values, low in zip(columns, (0.0, 0.0, -1.0), strict=True)
        )
        return cls(scorer.name, len(clusters), full, skipped, drop, scorer.per_item)

    def sentence(self, unit_word: str = "image") -> str:
        """Both means and the drop with their intervals, in one line."""
        whole = "" if self.per_item else "; it depends on all questions, so it has no certificate"
        return (
            f"{self.scorer}: full {_with_interval(self.full)}, skipped "
            f"{_with_interval(self.skipped)}, drop {_with_interval(self.drop)} "
            f"({counted(self.drop.n, unit_word)}){whole}"
        )


def _with_interval(mean: Estimate) -> str:
    low, high = mean.interval
    return f"{mean.value:.4f} ({low:.4f} to {high:.4f})"
