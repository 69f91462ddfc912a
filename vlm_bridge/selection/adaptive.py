"""The cheapest adaptive plan whose changed answers are certified: plans and thresholds together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from estimators import Estimate
from estimators.record import Record
from theory import Certificate
from vlm_bridge.data import Item, image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive import adaptive_outcomes
from vlm_bridge.evaluate.adaptive_cost import AdaptiveMeasure, sampled_flops
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.from_outcomes import certificate_of, signed
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.given import check_vlm, given_plans
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, check_over
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.certified import (
    certified_on,
    check_search,
    of_sequence,
    spent_answers,
    until_one_fails,
)
from vlm_bridge.selection.chains import Chain, check_chains, find_chains, front_places
from vlm_bridge.selection.path import RUNGS, pareto_places
from vlm_bridge.selection.sureness import ask_plans
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
    candidates: Sequence[SkipPlan | str],
    *,
    signals: Sequence[str] = ("margin",),
    over: str = "answer",
    gates: int = 1,
    epsilon: float = 0.02,
    delta: float = 0.05,
    rungs: Sequence[float] = RUNGS,
    stairs: Sequence[float] = (),
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
    ledger: Ledger | str | Path | None = None,
) -> CertifiedAdaptive:
    """The cheapest chain of candidates and thresholds whose changed answers are certified.

    Every candidate answers all tuning questions once; all else is arithmetic on these answers,
    their signals and FLOPs counted once for each candidate. A threshold at the signal of a changed
    answer sends it on, with all that are less sure; other thresholds send more on and change as
    many. Of all gates and chains at these thresholds (`find_chains`) and of the fixed plans, the
    path of `pareto_path` is tested in sequence on the certification images, each step by a run of
    its own: with probability 1 - delta the plan changes at most epsilon of the answers. No labels.

    The certificate holds for any number of chains, but the more are tried, the more the best one
    owes to the tuning images, and the sooner the sequence ends. So `gates` is 1 unless asked for;
    `stairs` put safer steps before the first.

    Args:
        vlm: not inside `skipping`.
        tuning: questions for the choice.
        certification: questions for the certificate, about other images.
        candidates: plans of any modes, also in words, that become gates.
        signals: some of `margin`, `entropy`, `confidence`, tried at every candidate, and
            `agreement`, tried at every pair of candidates.
        over: "answer" or "first"; see `Gate`.
        gates: most gates of a chain.
        epsilon: largest share of changed answers to certify.
        delta: probability that the certificate is wrong, including the search.
        rungs: as for `search`; savings are 1 minus the expected cost.
        stairs: as for `search`.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        checkpoint: a folder for finished batches; the same call resumes from it.
        ledger: as for `search`.

    Raises:
        BridgeError: as `search`; an unknown signal; a number of gates outside 1 to 8; no
            candidate that skips anything.
    """
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie in (0, 1), got {epsilon}")
    check_chains(signals, gates)
    check_over(over)
    if over == "token":
        raise BridgeError(
            "a threshold on tokens changes the tokens behind it, so that answers must be made anew "
            "for each: vb.search_by_token(vlm, tuning, certification, candidates) does that"
        )
    check_vlm(vlm)
    given = given_plans(vlm, candidates)
    tuning, certification = check_search(
        *(vlm, tuning, certification, given), epsilon=epsilon, delta=delta, ledger=ledger
    )
    generating: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    plans = [plan for plan in supported_only(vlm, given) if not plan.is_empty]
    plans = list(dict.fromkeys(plans))
    if not plans:
        raise BridgeError("every candidate skips nothing, so that there is nothing to decide")
    file = checkpoint and checkpoint / "tuning-full.jsonl"
    full = FullAnswers.ask(vlm, tuning, checkpoint=file, **generating)
    known = ask_plans(full, vlm, plans, over=over, batch_size=batch_size, checkpoint=checkpoint)
    costs = sampled_flops(vlm, tuning, plans).costs
    found = find_chains(known, plans, signals, costs, gates=gates)
    rates, savings = [chain.changed for chain in found], [1.0 - chain.cost for chain in found]
    path = pareto_places(rates, savings, epsilon=epsilon, rungs=rungs, stairs=stairs)
    settings = {"epsilon": epsilon, "candidates": len(plans), "signals": list(signals)}
    settings |= {"gates": gates}

    def measured(plan: AdaptivePlan) -> AdaptiveMeasure:
        columns: Any = (*known.replay(plan), known.clusters, costs(plan.gates))
        return AdaptiveMeasure.of(plan, *columns)

    def tuned(chain: Chain) -> AdaptiveMeasure:
        longest = {"max_new_tokens": max_new_tokens}
        return measured(tuned_on(vlm, chain.plan, tuning, **longest, settings=settings))

    steps = [tuned(found[place]) for place in path]
    # Without the names of the images, which stand in the path.
    front = [found[place] for place in pareto_front(rates, savings)]
    drawn = {
        name: tuple(measured(chain.plan.bare()) for chain in chains)
        for name, chains in (("front", front), ("fixed", found[: len(plans)]))
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
    together = 1 - 0.05 / len(steps)
    tested: list[AdaptiveMeasure] = []

    def certify_one(plan: AdaptivePlan) -> Certificate:
        file = checkpoint and checkpoint / f"certification-{plan.hash()[:12]}.jsonl"
        outcomes, at = adaptive_outcomes(answers, vlm, plan, batch_size=batch_size, checkpoint=file)
        columns: Any = (outcomes.disagree, at, outcomes.clusters, costs(plan.gates))
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


def pareto_front(rates: Sequence[float], savings: Sequence[float]) -> list[int]:
    """The indices to which no other saves as much at a lower rate, the largest savings first.

    >>> pareto_front([0.1, 0.0, 0.2, 0.05], [0.5, 0.2, 0.4, 0.3])
    [0, 3, 1]
    """
    front = front_places(np.array(rates), -np.array(savings))
    return [place for place in front if savings[place] > 0]
