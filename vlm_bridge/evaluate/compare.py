"""Compare the full and the skipped model on the same questions, with intervals by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators import Estimate, clustered_mean, to_pandas
from estimators.record import Record
from theory.certificates import AT_LIMIT
from theory.certificates.certificate import changed_things, counted, unspoken
from vlm_bridge.data import Item, items_hash, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.full_answers import DECISION
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.paired import paired_answers
from vlm_bridge.evaluate.score_of_plan import ScoreOfPlan
from vlm_bridge.evaluate.scorers import EXACT
from vlm_bridge.evaluate.word_errors import word_error_rate
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Comparison(Record):
    """The quality that a plan costs. Every interval is by image.

    Attributes:
        plan: what was skipped.
        decision: what was compared: "generated answer" (the greedy answer up to
            `max_new_tokens`) or "first answer token" (its argmax; cheaper, for sweeps).
        max_new_tokens: longest answer, in tokens; 1 for the first answer token.
        share_at_limit: share of the full model's answers that reached that length without
            ending: what follows is not compared. None where only the first token was run.
        n_images: number of independent units, images unless `unit_word` says otherwise.
        n_questions: number of questions about them.
        n_unlabelled: number of those without a label; accuracies and drop are of the others.
        data_hash: `items_hash` of the questions.
        disagreement: share of answers (first answer tokens) whose text changed; a mean over images,
            as are the KLs, the accuracies and the drop.
        kl_full_skipped: KL(full || skipped) at the first answer token, nats; None where only the
            texts were compared.
        kl_skipped_full: KL(skipped || full) at the first answer token, nats.
        accuracy_full: None without labels, as are the next two.
        accuracy_skipped: accuracy of the skipped model.
        drop: accuracy_full - accuracy_skipped, paired.
        model, fingerprint: name and fingerprint of the model; "" if not known.
        word_errors_full, word_errors_skipped: word error rates of both models; None unless the
            labels are transcripts of recordings, of whole answers.
        unit_word: what the units are, in the singular: "image", "recording", "text".
    """

    plan: SkipPlan
    decision: str
    max_new_tokens: int
    share_at_limit: float | None
    n_images: int
    n_questions: int
    n_unlabelled: int
    data_hash: str
    disagreement: Estimate
    kl_full_skipped: Estimate | None
    kl_skipped_full: Estimate | None
    accuracy_full: Estimate | None
    accuracy_skipped: Estimate | None
    drop: Estimate | None
    model: str = ""
    fingerprint: str = ""
    word_errors_full: Estimate | None = None
    word_errors_skipped: Estimate | None = None
    unit_word: str = "image"

    @classmethod
    def of(
        cls, plan: SkipPlan, outcomes: Outcomes, decision: str, vlm: VLM | None = None
    ) -> Comparison:
        """Means over the outcomes of `vlm`; every image weighs the same.

        Raises:
            BridgeError: fewer than two images, which have no interval.
        """
        clusters, accuracy = outcomes.clusters, ScoreOfPlan.of(EXACT, outcomes)
        check_images(outcomes.items)

        def mean(values: Any, low: float, high: float) -> Estimate:
            return clustered_mean(values, clusters, bounds=(low, high), unit="1")

        def kl(values: Sequence[float] | None) -> Estimate | None:
            return None if values is None else clustered_mean(values, clusters, unit="nats")

        def word_errors(values: Any) -> Estimate | None:
            return None if values is None else word_error_rate(values, outcomes.items)

        return cls(
            plan=plan,
            decision=decision,
            max_new_tokens=outcomes.max_new_tokens,
            share_at_limit=outcomes.share_at_limit,
            n_images=len(set(clusters)),
            n_questions=len(clusters),
            n_unlabelled=outcomes.n_unlabelled,
            data_hash=items_hash(outcomes.items),
            disagreement=mean(outcomes.disagree, 0, 1),
            kl_full_skipped=kl(outcomes.kl_full_skipped),
            kl_skipped_full=kl(outcomes.kl_skipped_full),
            accuracy_full=None if accuracy is None else accuracy.full,
            accuracy_skipped=None if accuracy is None else accuracy.skipped,
            drop=None if accuracy is None else accuracy.drop,
            model="" if vlm is None else vlm.name,
            fingerprint="" if vlm is None else vlm.fingerprint,
            word_errors_full=word_errors(outcomes.errors_full),
            word_errors_skipped=word_errors(outcomes.errors_skipped),
            unit_word=unit_word(outcomes.items, 1),
        )

    def to_pandas(self) -> DataFrame:
        """One row: every number, and two columns for each interval.

        `vlm_bridge.to_pandas` makes a frame of several, such as those of a sweep.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return to_pandas([self])

    def sentence(self) -> str:
        """The disagreement in one sentence that says what was compared."""
        low, high = self.disagreement.interval
        return (
            f"{changed_things(self.max_new_tokens)} changed: {self.disagreement.value:.2%} "
            f"({low:.2%} to {high:.2%}, {counted(self.n_images, self.unit_word)})"
            f"{unspoken(self.max_new_tokens, self.share_at_limit)}"
        )

    def accuracy_sentence(self) -> str:
        """Accuracy of both models and the drop, and how many questions have no label."""
        full, skipped, drop = self.accuracy_full, self.accuracy_skipped, self.drop
        if full is None or skipped is None or drop is None:
            return "no accuracy: no question has a label"
        low, high = drop.interval
        unlabelled = f"; {self.n_unlabelled} of {self.n_questions} questions have no label"
        return (
            f"accuracy: full {full.value:.2%}, skipped {skipped.value:.2%}, drop {drop.value:.2%} "
            f"({low:.2%} to {high:.2%}, {counted(drop.n, self.unit_word)})"
            f"{unlabelled if self.n_unlabelled else ''}"
        )

    def word_error_sentence(self) -> str:
        """Word error rates of both models; empty unless the labels are transcripts."""
        full, skipped = self.word_errors_full, self.word_errors_skipped
        if full is None or skipped is None:
            return ""
        rates = ", ".join(
            f"{name} {rate.value:.2%} ({rate.interval[0]:.2%} to {rate.interval[1]:.2%})"
            f"{'' if rate.reliable else f' (not reliable: {rate.reason})'}"
            for name, rate in (("full", full), ("skipped", skipped))
        )
        words = int(full.diagnostics["denominator"])
        return (
            f"word error rate: {rates}, {words} words in {counted(full.n, self.unit_word)}"
            f"{missing_words(self.max_new_tokens, self.share_at_limit)}"
        )

    def __str__(self) -> str:
        """Its sentences, one a line."""
        said = (self.sentence(), self.accuracy_sentence(), self.word_error_sentence())
        return "\n".join(filter(None, said))


def missing_words(max_new_tokens: int, share_at_limit: float | None) -> str:
    """The end of a sentence about word errors where more than `AT_LIMIT` of the answers were cut.

    >>> missing_words(8, 0.5)
    '; answers are cut at 8 tokens, so words that would follow count as wrong'
    >>> missing_words(64, 0.0)
    ''
    """
    if share_at_limit is None or share_at_limit <= AT_LIMIT:
        return ""
    return (
        f"; answers are cut at {max_new_tokens} tokens, so words that would follow count as wrong"
    )


def check_images(items: Iterable[Item]) -> None:
    """Raise a `BridgeError` unless there are two units, the fewest that have an interval."""
    items = list(items)
    if (n := len({item.cluster for item in items})) == 1:
        one, some = unit_word(items, 1), unit_word(items)
        several = any(len(item.images) > 1 for item in items)
        why = "; questions that share an image are one unit, so ask about disjoint pairs"
        raise BridgeError(
            f"an interval by {one} needs at least 2 {some}, got {n}{why if several else ''}"
        )


def compare(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan | str,
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> Comparison:
    """Accuracy, its drop, disagreement, and KL both ways, full against skipped, by image.

    Disagreement and accuracy are of greedy answers up to `max_new_tokens` tokens, the KLs of the
    first answer token; `compare_answers` has other scores. Two answers agree if
    their texts without special tokens and outer white space are equal; an answer is right if its
    `normalise`d form is that of a label. Questions without a label count for the disagreement
    alone; without any label the accuracies are None.
    Arguments and errors are those of `paired_answers`; one image alone is refused.
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = check_items(items)
    check_images(items)
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    said = paired_answers(vlm, items, plan, checkpoint=checkpoint, **sizes)
    return Comparison.of(plan, said.outcomes(), DECISION, vlm)
