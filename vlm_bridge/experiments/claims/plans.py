"""Our certified plan of a mode, the thirds, and the controls of their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from estimators import Estimate
from vlm_bridge.data import Item
from vlm_bridge.experiments.claims.p_values import share_p_values
from vlm_bridge.experiments.claims.protocol import OURS, third
from vlm_bridge.experiments.claims.results import PlanResult
from vlm_bridge.experiments.claims.subject import AnswerBook, Subject, share
from vlm_bridge.plan.controls import random_plans
from vlm_bridge.plan.modes import LAYERWISE, MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union
from vlm_bridge.rules import find_rule
from vlm_bridge.selection import CertifiedPlan, search

OUR_PLAN, EARLY, LATE = "ours", "first third", "last third"


@dataclass(frozen=True)
class PlanSet:
    """A plan and its controls of equal size; in modes of depths it has none.

    Attributes:
        role: `OUR_PLAN`, `EARLY` or `LATE`.
        mode: of the plan.
        plan: None if nothing was certified.
        search: how our plan was certified; None of a third.
        random: random plans.
        deepest, shallowest: the last and the first layers that the protocol counts.
        least_safe: what our rule ranks least safe; None of a third.
    """

    role: str
    mode: str
    plan: SkipPlan | None
    search: CertifiedPlan | None = None
    random: tuple[SkipPlan, ...] = ()
    deepest: SkipPlan | None = None
    shallowest: SkipPlan | None = None
    least_safe: SkipPlan | None = None

    @property
    def plans(self) -> list[SkipPlan]:
        """The plan and all its controls."""
        of_size = (self.plan, *self.random, self.deepest, self.shallowest, self.least_safe)
        return [plan for plan in of_size if plan is not None]


def candidates(subject: Subject, mode: str) -> list[SkipPlan]:
    """Nested plans of our rule, the smallest first: unions of its safest counted layers, or depths.

    Raises:
        BridgeError: our rule cannot score this mode of this model.
    """
    units = subject.counted_units(mode)
    if mode in LAYERWISE:
        order = ordered(subject, mode)
        plans = [union(order[:size]) for size in range(1, len(order) + 1)]
    else:
        plans = units[::-1] if MODES[mode].deeper_skips_less else units
    origin = subject.evidence.provenance(OURS, find_rule(OURS).requires)
    origin = replace(origin, settings={})  # a resumed run reads the scores, and no profile
    return [replace(plan, provenance=origin) for plan in plans]


def ordered(subject: Subject, mode: str) -> list[SkipPlan]:
    """The counted units of a mode, in the order of our rule, the safest first."""
    units = subject.counted_units(mode)
    order = np.argsort(subject.scores(OURS, mode), kind="stable").tolist()
    return [units[place] for place in order]


def our_plan(
    subject: Subject,
    mode: str,
    tuning: Sequence[Item],
    certification: Sequence[Item],
    folder: Path,
) -> PlanSet:
    """The largest plan of a mode that tuning images put on our path and that is certified.

    Raises:
        BridgeError: our rule cannot score this mode of this model.
    """
    settings = subject.settings
    found = search(
        subject.vlm,
        tuning,
        certification,
        candidates(subject, mode),
        epsilon=settings.epsilon,
        delta=settings.delta,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        checkpoint=folder,
    )
    if found.certificate is None:
        return PlanSet(OUR_PLAN, mode, None, found)
    size, least_safe = len(found.plan.layers), None
    if mode in LAYERWISE:
        least_safe = union(ordered(subject, mode)[-size:])
    return _with_controls(subject, PlanSet(OUR_PLAN, mode, found.plan, found), least_safe)


def third_plan(subject: Subject, role: str) -> PlanSet | None:
    """Freezing of the first or the last third of the layers; None if no layer of it is left."""
    usable = {unit.layers[0] for unit in subject.counted_units("freeze")}
    layers = tuple(i for i in third(subject.n_layers, last=role == LATE) if i in usable)
    if not layers:
        return None
    plan = SkipPlan("freeze", subject.n_layers, layers)
    return _with_controls(subject, PlanSet(role, "freeze", plan), None)


def _with_controls(subject: Subject, of: PlanSet, least_safe: SkipPlan | None) -> PlanSet:
    plan, settings = of.plan, subject.settings
    if plan is None or of.mode not in LAYERWISE:
        return of
    units, size = subject.counted_units(of.mode), len(plan.layers)
    random = random_plans(
        plan, draws=settings.draws, seed=settings.seed, held_out=subject.held_out(of.mode)
    )
    return replace(
        of,
        random=tuple(random),
        deepest=union(units[-size:]),
        shallowest=union(units[:size]),
        least_safe=least_safe,
    )


def search_p_values(found: CertifiedPlan, epsilon: float) -> tuple[float, float]:
    """p-values for and against "the plan changes at most epsilon", corrected for the search.

    Steps are tested in sequence, so that the p-value of a step is the largest up to it. Without a
    certified plan they are those of the first step; without a step both are 1.
    """
    counts = [(round(each.estimate * each.n_images), each.n_images) for each in found.certificates]
    if not counts:
        return 1.0, 1.0
    held = max(1, sum(each.holds for each in found.certificates))
    both = [
        share_p_values(np.repeat([1.0, 0.0], [changed, n - changed]), epsilon)
        for changed, n in counts[:held]
    ]
    return max(p for p, _ in both), both[-1][1]


def plan_result(subject: Subject, certification: AnswerBook, of: PlanSet) -> PlanResult:
    """The plan and its controls on test images, for the record."""
    if of.plan is None:
        empty = SkipPlan("block", subject.n_layers)
        return PlanResult(of.role, empty, of.search, None, None, (), None, None, None)
    test, items = subject.test, subject.test.items
    test.run(of.plans)
    changed = test.changed(of.plan)

    def rate(plan: SkipPlan | None) -> Estimate | None:
        return None if plan is None else share(test.changed(plan), items)

    over = None
    if of.deepest is not None:
        over = share(test.changed(of.deepest) - changed, items, -1.0, 1.0)
    return PlanResult(
        role=of.role,
        plan=of.plan,
        search=of.search,
        certified=share(certification.changed(of.plan), certification.items),
        changed=share(changed, items),
        random=tuple(float(test.changed(plan).mean()) for plan in of.random),
        deepest=rate(of.deepest),
        over_deepest=over,
        least_safe=rate(of.least_safe),
    )
