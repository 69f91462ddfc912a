"""The cheapest adaptive plan whose changed answers are certified: plans and thresholds together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from estimators import Estimate
from estimators.clustered import image_mean
from estimators.record import Record
from theory import Certificate
from vlm_bridge.data import Item, image_ids
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.adaptive import adaptive_outcomes
from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure, gate_costs
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
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
from vlm_bridge.selection.sureness import Sureness, sureness_of
from vlm_bridge.selection.tuning import supported_only, tuned_on


@dataclass(frozen=True)
class CertifiedAdaptive(Record):
    """The cheapest certified adaptive plan on a path, and what it was chosen from.

    Attributes:
        plan: the plan; None if the first step was not certified, so that the full model answers.
        certificate: of that plan, corrected for the search; None without a plan.
        cost: its expected cost on the certification images. The interval is about the share of
            answers that fall back, given the FLOPs of plan and full model, which are counted on the
            first 16 tuning questions and whose spread is in no interval. Given these, the intervals
            of all steps of the path hold together with probability 95 %. None without a plan.
        front: on the tuning images, all plans to which no other is better in both cost and changed
            answers, the cheapest first.
        fixed: every candidate as a fixed plan, on the tuning images.
        path: the steps in their order of testing, on the tuning images.
        tested: those that were tested, on the certification images.
        certificates: of each tested step, uncorrected; all but perhaps the last hold.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("saving",)

    plan: AdaptivePlan | None
    certificate: Certificate | None
    cost: Estimate | None
    front: tuple[AdaptiveMeasure, ...]
    fixed: tuple[AdaptiveMeasure, ...]
    path: tuple[AdaptiveMeasure, ...]
    tested: tuple[AdaptiveMeasure, ...]
    certificates: tuple[Certificate, ...]

    @property
    def saving(self) -> float:
        """1 minus the expected cost; 0 without a plan."""
        return 0.0 if self.cost is None else 1.0 - self.cost.value


def adaptive_search(
    vlm: VLM,
    tuning: Iterable[Item],
    certification: Iterable[Item],
    candidates: Sequence[SkipPlan],
    *,
    signals: Sequence[str] = ("margin",),
    over: str = "answer",
    epsilon: float = 0.02,
    delta: float = 0.05,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> CertifiedAdaptive:
    """The cheapest candidate with a threshold whose changed answers are certified.

    Every candidate answers all tuning questions. A threshold at the signal of a changed answer
    sends it to the full model, with all that are less sure; other thresholds send more and change
    as many. Of all candidates at all these thresholds, and at -inf (the fixed plans), the path of
    `pareto_path` is tested in sequence on the certification images, each step by a run of its own:
    with probability 1 - delta the plan changes at most epsilon of the answers. No labels.

    Args:
        vlm: not inside `skipping`.
        tuning: questions for the choice.
        certification: questions for the certificate, about other images.
        candidates: plans of any modes; each becomes adaptive plans of one gate.
        signals: `margin`, `entropy` or both, tried at every candidate.
        over: "answer" or "first"; see `Gate`.
        epsilon: largest share of changed answers to certify.
        delta: probability that the certificate is wrong, including the search.
        rungs: as for `search`; savings are 1 minus the expected cost.
        stairs: as for `search`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a folder for finished batches; the same call resumes from it.
        ledger: as for `search`.

    Raises:
        BridgeError: as `search`; an unknown signal, or `agreement`, which needs second plans; no
            candidate that skips anything.
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    _check_signals(signals)
    tuning, certification = check_search(
        *(vlm, tuning, certification, candidates), epsilon=epsilon, delta=delta, ledger=ledger
    )
    generating: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    plans = [plan for plan in supported_only(vlm, candidates) if not plan.is_empty]
    if not plans:
        raise BridgeError("every candidate skips nothing, so that there is nothing to decide")
    file = checkpoint and checkpoint / "tuning-full.jsonl"
    full = FullAnswers.ask(vlm, tuning, checkpoint=file, **generating)
    found: list[tuple[AdaptivePlan, Sureness, tuple[float, ...]]] = []
    for plan in plans:
        costs = gate_costs(vlm, tuning, AdaptivePlan((Gate(plan, over=over),)))
        for signal in signals:
            gate = Gate(plan, signal, over=over)
            file = checkpoint and checkpoint / f"sureness-{gate_name(gate)}.jsonl"
            sure = sureness_of(full, vlm, gate, batch_size=batch_size, checkpoint=file)
            for limit in sure.thresholds():
                found.append((AdaptivePlan((replace(gate, threshold=limit),)), sure, costs))
    rates, savings = rates_and_savings(found)
    path = pareto_places(rates, savings, epsilon=epsilon, rungs=rungs, stairs=stairs)
    settings = {"epsilon": epsilon, "candidates": len(plans), "signals": list(signals)}

    def measured(place: int, plan: AdaptivePlan) -> AdaptiveMeasure:
        _, sure, costs = found[place]
        stands = sure.stands(plan.gates[0].threshold)
        changed = np.where(stands, sure.changed, 0.0).tolist()
        columns: Any = (changed, (~stands).astype(int).tolist(), sure.clusters, costs)
        return AdaptiveMeasure.of(plan, *columns)

    def tuned(place: int) -> AdaptiveMeasure:
        plan = found[place][0]
        longest = {"max_new_tokens": max_new_tokens}
        return measured(place, tuned_on(vlm, plan, tuning, **longest, settings=settings))

    steps = [tuned(place) for place in path]
    fixed = [i for i, (plan, _, _) in enumerate(found) if plan.gates[0].threshold == -np.inf]
    # Without the names of the images, which stand in the path.
    drawn = {
        name: tuple(measured(place, found[place][0].bare()) for place in places)
        for name, places in (
            ("front", pareto_front(rates, savings)),
            ("fixed", fixed[:: len(signals)]),
        )
    }
    if not steps:
        return CertifiedAdaptive(None, None, None, **drawn, path=(), tested=(), certificates=())
    answers, spending, level = spent_answers(
        *(vlm, certification, [step.plan.hash() for step in steps]),
        level={"epsilon": epsilon, "delta": delta},
        generating=generating,
        checkpoint=checkpoint,
        ledger=ledger,
    )
    costs_of = {step.plan.hash(): step.costs for step in steps}
    together = 1 - 0.05 / len(steps)
    tested: list[AdaptiveMeasure] = []

    def certify_one(plan: AdaptivePlan) -> Certificate:
        file = checkpoint and checkpoint / f"certification-{plan.hash()[:12]}.jsonl"
        outcomes, gates = adaptive_outcomes(
            answers, vlm, plan, batch_size=batch_size, checkpoint=file
        )
        columns: Any = (outcomes.disagree, gates, outcomes.clusters, costs_of[plan.hash()])
        tested.append(AdaptiveMeasure.of(plan, *columns, level=together))
        return signed(certificate_of(plan, outcomes, **level), vlm, plan, spending)

    certificates = until_one_fails([step.plan for step in steps], certify_one)
    certificate = of_sequence(certificates, len(steps))
    images = image_ids(certification)
    held = sum(each.holds for each in certificates)
    return CertifiedAdaptive(
        certified_on(steps[held - 1].plan, images) if held else None,
        certificate,
        tested[held - 1].cost if held else None,
        **drawn,
        path=tuple(replace(step, plan=certified_on(step.plan, images)) for step in steps),
        tested=tuple(tested),
        certificates=tuple(certificates),
    )


def gate_name(gate: Gate) -> str:
    """A name of plan, signal and `over` for files."""
    return f"{gate.plan.hash()[:12]}-{gate.signal}-{gate.over}"


def pareto_front(rates: Sequence[float], savings: Sequence[float]) -> list[int]:
    """The indices to which no other saves as much at a lower rate, the largest savings first.

    >>> pareto_front([0.1, 0.0, 0.2, 0.05], [0.5, 0.2, 0.4, 0.3])
    [0, 3, 1]
    """
    front: list[int] = []
    for i in sorted(range(len(rates)), key=lambda i: (-savings[i], rates[i])):
        if savings[i] > 0 and (not front or rates[i] < rates[front[-1]]):
            front.append(i)
    return front


def _check_signals(signals: Sequence[str]) -> None:
    known = ("margin", "entropy")
    if isinstance(signals, str) or not signals or not set(signals) <= set(known):
        raise BridgeError(
            f"signals of a search are a list of some of {', '.join(known)}, got {shown(signals)}"
        )


def rates_and_savings(
    found: Sequence[tuple[AdaptivePlan, Sureness, tuple[float, ...]]],
) -> tuple[list[float], list[float]]:
    """Of every adaptive plan of one gate: changed answers by image, and 1 - the expected cost."""
    rates, savings = [], []
    for plan, sure, (at_gate, behind) in found:
        stands = sure.stands(plan.gates[0].threshold)
        rates.append(float(image_mean(np.where(stands, sure.changed, 0.0), sure.clusters)))
        fallback = float(image_mean((~stands).astype(float), sure.clusters))
        savings.append(1.0 - at_gate - fallback * behind)
    return rates, savings
