"""Whether a model enters the verdicts: better than guessing blind, and graded harm."""

from __future__ import annotations

from collections.abc import Sequence

from estimators import Estimate
from vlm_bridge.data import Item
from vlm_bridge.evaluate.baselines import accuracy, blind_answers
from vlm_bridge.experiments.claims.protocol import GRADED, GRADED_HARM, LEAD
from vlm_bridge.experiments.claims.results import Entry
from vlm_bridge.experiments.claims.subject import AnswerBook


def enter(tuning: AnswerBook, training: Sequence[Item], block_harm: Sequence[float]) -> Entry:
    """The criteria of section 2.

    Args:
        tuning: the full model's answers to the tuning questions.
        training: questions that give the blind guess; without answers to them there is none.
        block_harm: share of answers that each single block changes.

    Returns:
        The figures, and whether both criteria are met: a lead of 15 points over the blind guess
        (where answers have labels), and at least a third of the blocks within 2 to 90 %.
    """
    labelled = any(item.answer is not None for item in tuning.items)
    known = any(item.answer is not None for item in training)
    right: Estimate | None = None
    blind: Estimate | None = None
    if labelled:
        right = accuracy(tuning.texts(), tuning.items)
        if known:
            blind = accuracy(blind_answers(training, tuning.items), tuning.items)
    least, most = GRADED_HARM
    graded = sum(least <= harm <= most for harm in block_harm) / len(block_harm)
    leads = right is None or (blind is not None and right.value - blind.value >= LEAD - 1e-9)
    enters = leads and graded >= GRADED - 1e-9
    if right is None:
        said = "no labels"
    elif blind is None:
        said = f"{right.value:.1%} right, and no training answers for a blind guess"
    else:
        said = f"{right.value:.1%} right, blind {blind.value:.1%}"
    said += (
        f"; {graded:.0%} of {len(block_harm)} blocks change {least:.0%} to {most:.0%} "
        f"of the answers (needed: {LEAD:.0%} above blind, {GRADED:.0%} of the blocks)"
    )
    return Entry(right, blind, graded, len(block_harm), enters, said)
