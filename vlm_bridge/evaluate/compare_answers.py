"""More about answers that were compared: their scores, harm by length, and tokens per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.data import items_hash, unit_word
from vlm_bridge.evaluate.answer_speed import FEWEST, AnswerSpeed
from vlm_bridge.evaluate.compare import check_images
from vlm_bridge.evaluate.paired import PairedAnswers
from vlm_bridge.evaluate.score_of_plan import ScoreOfPlan
from vlm_bridge.evaluate.scorers import Function, Scorer, find_scorers


@dataclass(frozen=True)
class HarmByLength(Record):
    """What skipping changes in the first tokens of the answers; every interval is by image.

    Attributes:
        n_tokens: the answers up to this number of tokens are compared.
        longer: share of the full model's answers that are longer.
        changed: share of these beginnings whose text changed.
        drops: mean score of the full model's beginnings minus that of the skipped one's, by scorer.
    """

    n_tokens: int
    longer: Estimate
    changed: Estimate
    drops: Mapping[str, Estimate]


@dataclass(frozen=True)
class AnswerComparison(Record):
    """Scores, harm by length and speed of a plan, beside the full model.

    Attributes:
        plan_hash: hash of the plan.
        data_hash: `items_hash` of the questions.
        max_new_tokens: longest answer, in tokens.
        n_images: number of independent units, called `unit_word`.
        scores: of each scorer that found a label.
        by_length: up to 1, 4, 16, ... tokens, at last up to the longest answer.
        speed: None of fewer than three batches.
        unit_word: what the units are, in the singular.
    """

    plan_hash: str
    data_hash: str
    max_new_tokens: int
    n_images: int
    scores: tuple[ScoreOfPlan, ...]
    by_length: tuple[HarmByLength, ...]
    speed: AnswerSpeed | None
    unit_word: str = "image"

    def lines(self) -> Iterator[str]:
        """Scores, a table of harm by length, and speeds, for people."""
        for score in self.scores:
            yield score.sentence(self.unit_word)
        names = list(self.by_length[0].drops)
        yield "\t".join(("tokens", "longer", "changed", *(f"drop of {name}" for name in names)))
        for row in self.by_length:
            means = (row.longer, row.changed, *(row.drops[name] for name in names))
            yield "\t".join((f"up to {row.n_tokens}", *map(_percent, means)))
        yield (
            f"tokens per second need at least {FEWEST} batches; give a smaller --batch-size"
            if self.speed is None
            else self.speed.sentence()
        )


def compare_answers(
    said: PairedAnswers, scorers: Sequence[str | Function | Scorer] = ("exact",)
) -> AnswerComparison:
    """Score both models' answers, compare their beginnings, and count tokens per second.

    Args:
        said: what both models said, from `paired_answers`.
        scorers: names or functions, as `find_scorer` takes them.

    Raises:
        BridgeError: an unknown scorer, two of one name, items that one cannot score, or a single
            image, which has no interval.

    Example:
        >>> said = paired_answers(vlm, items, plan, max_new_tokens=256)  # doctest: +SKIP
        >>> compare_answers(said, ["anls"]).scores[0].drop.value  # doctest: +SKIP
        0.0125
    """
    check_images(said.items)
    fitted = [scorer.of(said.items) for scorer in find_scorers(scorers)]
    scores = (ScoreOfPlan.of(scorer, said.outcomes(scorer)) for scorer in fitted)
    return AnswerComparison(
        plan_hash=said.plan.hash(),
        data_hash=items_hash(said.items),
        max_new_tokens=said.max_new_tokens,
        n_images=len({item.cluster for item in said.items}),
        scores=tuple(score for score in scores if score is not None),
        by_length=tuple(_harm(said, length, fitted) for length in said.lengths),
        speed=AnswerSpeed.of(said),
        unit_word=unit_word(said.items, 1),
    )


def _harm(said: PairedAnswers, length: int, scorers: Sequence[Scorer]) -> HarmByLength:
    """The harm in the first `length` tokens."""
    outcomes = said.outcomes_up_to(length)
    longer = [
        float(n > length or (n == length and cut))
        for n, cut in zip(said.full.n_tokens, said.at_limit, strict=True)
    ]

    def share(values: Sequence[float]) -> Estimate:
        return clustered_mean(values, outcomes.clusters, bounds=(0.0, 1.0), unit="1")

    found = (ScoreOfPlan.of(each, said.outcomes_up_to(length, each)) for each in scorers)
    drops = {score.scorer: score.drop for score in found if score is not None}
    return HarmByLength(length, share(longer), share(outcomes.disagree), drops)


def _percent(share: Estimate) -> str:
    low, high = share.interval
    return f"{share.value:.1%} ({low:.1%} to {high:.1%})"
