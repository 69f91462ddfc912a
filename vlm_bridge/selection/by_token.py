"""`search_by_token`: the threshold of a plan over tokens, certified for whole answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators.record import Record
from theory import Certificate
from vlm_bridge.data import Item, image_ids
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.by_token import TokenMeasure, TokenOutcomes, token_outcomes
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.given import check_vlm, given_plans
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import OWN_SIGNALS, AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.certified import (
    certified_on,
    check_search,
    of_sequence,
    spent_answers,
    until_one_fails,
)
from vlm_bridge.selection.path import RUNGS, pareto_places
from vlm_bridge.selection.tuning import tuned_on
from vlm_bridge.skip.by_token import check_token_gate

#: Shares of the plan's tokens on tuning images that the tried thresholds send to the full model.
SENT_ON = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class CertifiedByToken(Record):
    """The cheapest certified plan over tokens on a path, and what it was chosen from.

    Attributes:
        plan: the plan; None if the first step was not certified, so that the full model answers.
        certificate: of that plan, corrected for the search; None without a plan.
        tried: all candidates and thresholds, on the tuning images.
        path: the steps in their order of testing, on the tuning images.
        tested: those that were tested, on the certification images.
        certificates: of each tested step, uncorrected; all but perhaps the last hold.
    """

    plan: AdaptivePlan | None
    certificate: Certificate | None
    tried: tuple[TokenMeasure, ...]
    path: tuple[TokenMeasure, ...]
    tested: tuple[TokenMeasure, ...]
    certificates: tuple[Certificate, ...]


def search_by_token(
    vlm: VLM,
    tuning: Iterable[Item],
    certification: Iterable[Item],
    candidates: Sequence[SkipPlan | str],
    *,
    signal: str = "margin",
    sent_on: Sequence[float] = SENT_ON,
    epsilon: float = 0.02,
    delta: float = 0.05,
    rungs: Sequence[float] = RUNGS,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> CertifiedByToken:
    """The plan over tokens with the cheapest passes whose changed answers are certified.

    Every candidate answers the tuning questions alone, which gives the signals of its tokens; then
    with thresholds at quantiles of these signals, each in a run of its own, since a token of the
    full model changes what comes behind it. A path of these (`pareto_path`) is tested in sequence
    on the certification images, each by a run of its own. Its savings are 1 minus
    `decoding_passes`, which counts a pass that catches up as one, however many tokens it reads;
    `skipit adaptive` times a plan. With probability 1 - delta the plan changes at most epsilon of
    the whole answers. No labels.

    Args:
        vlm: not inside `skipping`.
        tuning: questions for the choice.
        certification: questions for the certificate, about other images.
        candidates: plans that skip something of text (`block`, `sublayer`), also in words.
        signal: `margin`, `entropy` or `confidence`; see `Gate`.
        sent_on: shares of the plan's tokens on tuning questions that thresholds send to the full
            model, each in [0, 1); 0 tries the plan without a threshold.
        epsilon: largest share of changed answers to certify.
        delta: probability that the certificate is wrong, including the search.
        rungs: as for `search`; savings are 1 minus `decoding_passes`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a folder for finished batches; the same call resumes from it.
        ledger: as for `search`.

    Raises:
        BridgeError: as `adaptive_search` and `generate_by_token`; shares outside [0, 1).

    Example:
        >>> found = search_by_token(vlm, tuning, certification, ["block 6"])  # doctest: +SKIP
        >>> found.certificate.sentence()  # doctest: +SKIP
        'with probability ...'
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    if signal not in OWN_SIGNALS:
        raise BridgeError(f"signal must be one of {', '.join(OWN_SIGNALS)}, got {shown(signal)}")
    if not sent_on or not all(0 <= share < 1 for share in sent_on):
        raise BridgeError(f"sent_on must be shares in [0, 1), got {shown(sent_on)}")
    check_vlm(vlm)
    gates = [
        Gate(plan, signal, -math.inf, over="token")
        for plan in dict.fromkeys(given_plans(vlm, candidates))
    ]
    for gate in gates:
        check_token_gate(vlm, gate)
    plans = [gate.plan for gate in gates]
    tuning, certification = check_search(
        *(vlm, tuning, certification, plans), epsilon=epsilon, delta=delta, ledger=ledger
    )
    generating: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    file = checkpoint and checkpoint / "tuning-full.jsonl"
    full = FullAnswers.ask(vlm, tuning, checkpoint=file, **generating)

    def run(answers: FullAnswers, plan: AdaptivePlan, split: str) -> TokenOutcomes:
        file = checkpoint and checkpoint / f"{split}-{plan.hash()[:12]}.jsonl"
        return token_outcomes(answers, vlm, plan, batch_size=batch_size, checkpoint=file)

    tried = []
    for gate in gates:
        alone = run(full, AdaptivePlan((gate,)), "tuning")
        for threshold in thresholds(alone.signals, sent_on):
            plan = AdaptivePlan((replace(gate, threshold=threshold),))
            made = alone if threshold == gate.threshold else run(full, plan, "tuning")
            tried.append(made.measure(plan))
    rates = [each.changed.value for each in tried]
    savings = [1.0 - each.passes.value for each in tried]
    settings: dict[str, Any] = {"epsilon": epsilon, "candidates": len(gates)}
    settings |= {"thresholds": len(tried), "signal": signal}
    length = {"max_new_tokens": max_new_tokens}
    steps = [
        replace(step, plan=tuned_on(vlm, step.plan, tuning, **length, settings=settings))
        for step in (
            tried[place] for place in pareto_places(rates, savings, epsilon=epsilon, rungs=rungs)
        )
    ]
    if not steps:
        return CertifiedByToken(None, None, tuple(tried), (), (), ())
    answers, spending, level = spent_answers(
        *(vlm, certification, [step.plan.hash() for step in steps]),
        level={"epsilon": epsilon, "delta": delta},
        generating=generating,
        checkpoint=checkpoint,
        ledger=ledger,
    )
    tested: list[TokenMeasure] = []

    def certify_one(plan: AdaptivePlan) -> Certificate:
        made = run(answers, plan, "certification")
        tested.append(made.measure(plan))
        return signed(certificate_of(plan, made.outcomes, **level), vlm, plan, spending)

    certificates = until_one_fails([step.plan for step in steps], certify_one)
    images = image_ids(certification)
    held = sum(each.holds for each in certificates)
    return CertifiedByToken(
        certified_on(steps[held - 1].plan, images) if held else None,
        of_sequence(certificates, len(steps)),
        tuple(tried),
        tuple(replace(step, plan=certified_on(step.plan, images)) for step in steps),
        tuple(tested),
        tuple(certificates),
    )


def thresholds(signals: Iterable[Sequence[float]], sent_on: Sequence[float]) -> list[float]:
    """Thresholds below which about these shares of all signals lie; -inf for none.

    Each is half-way between two different signals, so that rounding in another batch does not
    decide; of equal signals none is separated from the others.

    Example:
        >>> thresholds([[1.0, 2.0], [3.0, 4.0]], [0.0, 0.5])
        [-inf, 2.5]
        >>> thresholds([[0.2, 1.0, 1.0, 1.0]], [0.25, 0.5])
        [0.6]
    """
    values, counts = np.unique([v for row in signals for v in row], return_counts=True)
    below = np.append(0, np.cumsum(counts))[:-1]  # signals below each value
    found = set()
    for share in sent_on:
        place = int(np.argmin(np.abs(below - share * counts.sum()))) if len(values) else 0
        found.add(-math.inf if place == 0 else float(values[place - 1 : place + 1].mean()))
    return sorted(found)
