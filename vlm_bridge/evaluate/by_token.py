"""Answers whose tokens are judged apart: how many change, and what they cost in passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estimators import Estimate, clustered_mean
from estimators.record import Record
from vlm_bridge.evaluate.answers import texts_of
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.savings import saving
from vlm_bridge.skip.by_token import check_token_gate, decide_by_token


@dataclass(frozen=True)
class TokenMeasure(Record):
    """A plan over tokens as measured on some images; every interval is by image.

    Attributes:
        plan: the plan, with one gate over tokens.
        changed: share of answers that differ from the full model's.
        plan_share: share of the plan in the tokens behind the first of an answer; 0 in an answer of
            one token.
        passes: passes behind the prompt, over those of the full model; see `decoding_passes`.
    """

    plan: AdaptivePlan
    changed: Estimate
    plan_share: Estimate
    passes: Estimate


@dataclass(frozen=True)
class TokenOutcomes:
    """Answers under a plan over tokens beside the full model's.

    Attributes:
        outcomes: of each answer.
        by_plan: of each answer, of each token behind the first, whether it is the plan's.
        signals: of each answer, how sure the plan was of each of these tokens.
    """

    outcomes: Outcomes
    by_plan: tuple[tuple[bool, ...], ...]
    signals: tuple[tuple[float, ...], ...]

    def measure(self, plan: AdaptivePlan) -> TokenMeasure:
        """Means over images."""
        work = 1.0 - saving(plan.gates[0].plan, modality=0.0)
        shares = [float(np.mean(row)) if row else 0.0 for row in self.by_plan]
        passes = [decoding_passes(row, work) for row in self.by_plan]
        by_image: Any = {"clusters": list(self.outcomes.clusters)}
        return TokenMeasure(
            plan,
            clustered_mean(self.outcomes.disagree, **by_image, bounds=(0, 1)),
            clustered_mean(shares, **by_image, bounds=(0, 1)),
            clustered_mean(passes, **by_image, bounds=(0, 1 + work)),
        )


def decoding_passes(by_plan: Sequence[bool], work: float) -> float:
    """Passes behind the prompt, weighted by the plan's work, over those of the full model.

        c = ((number of tokens) work + (number by the full model)) / (number of tokens)

    Every token costs a pass of the plan, whose work is `work` of a full one; each that the full
    model gives costs one of its passes more, which reads all tokens since the last one at once. It
    is counted as one pass however many they are: what that takes depends on the machine, and
    `stream_latency` times it. An answer of one token has no such pass: 1.

    Example:
        >>> decoding_passes([True, True, False, True], 0.5)
        0.75
    """
    return work + (len(by_plan) - sum(by_plan)) / len(by_plan) if by_plan else 1.0


def token_outcomes(
    full: FullAnswers,
    vlm: VLM,
    plan: AdaptivePlan,
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> TokenOutcomes:
    """Answer the questions under a plan over tokens, and compare with the full model's answers.

    Raises:
        BridgeError: as `generate_by_token`; a checkpoint of another run.
    """
    (gate,) = plan.gates
    check_token_gate(vlm, gate)

    def work(batch: Batch) -> dict[str, Any]:
        longest = full.max_new_tokens
        made, _ = decide_by_token(vlm, batch.inputs, gate, max_new_tokens=longest)
        by_plan = [list(row[1:]) for row in made.by_plan]
        signals = [list(row) for row in made.signals]
        return {"texts": list(texts_of(vlm, made.tokens)), "by_plan": by_plan, "signals": signals}

    settings = {"batch_size": batch_size, "max_new_tokens": full.max_new_tokens}
    answered = run_batches(
        vlm,
        full.items,
        work,
        _are_decisions,
        batch_size=batch_size,
        title="answers token by token",
        checkpoint=checkpoint,
        key=run_key("token outcomes", vlm, full.items, plan=plan.hash(), **settings),
    )
    # `FullAnswers.items` are in the order of the batches.
    texts, by_plan, signals = (
        [value for _, result in answered for value in result[name]]
        for name in ("texts", "by_plan", "signals")
    )
    outcomes = Outcomes.of_words(
        full.items,
        full.texts,
        texts,
        at_limit=full.at_limit,
        max_new_tokens=full.max_new_tokens,
    )
    return TokenOutcomes(outcomes, tuple(map(tuple, by_plan)), tuple(map(tuple, signals)))


def _are_decisions(result: Any, n: int) -> bool:
    if not isinstance(result, dict) or set(result) != {"texts", "by_plan", "signals"}:
        return False
    return (
        is_list_of(result["texts"], str, n)
        and is_list_of(result["by_plan"], list, n)
        and is_list_of(result["signals"], list, n)
        and all(
            is_list_of(by_plan, bool, len(by_plan)) and is_list_of(signals, float, len(by_plan))
            for by_plan, signals in zip(result["by_plan"], result["signals"], strict=True)
        )
    )
