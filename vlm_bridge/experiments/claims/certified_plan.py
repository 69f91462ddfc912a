"""The one plan of ours that a model's certification images vouch for, the choice paid for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from estimators.record import Record
from theory import Certificate
from vlm_bridge.experiments.claims.comparisons import of_origin
from vlm_bridge.experiments.claims.control import Measured
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult, Store, certify_stored
from vlm_bridge.plan.skip_plan import SkipPlan


@dataclass(frozen=True)
class CertifiedPlanResult(Record):
    """A certified plan, and what it did on images that had no part in it.

    Attributes:
        rule: ours, whose search led to it.
        saving: share of the prefill's work it leaves out.
        certificate: of all searches together.
        tested: the plan on the test images.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("mode",)

    rule: str
    saving: float
    certificate: Certificate
    tested: Measured

    @property
    def mode(self) -> str:
        """Of the plan."""
        return self.tested.plan.mode


def best_certified(benchmark: ModelBenchmark, store: Store) -> CertifiedPlanResult | None:
    """Of all plans of ours certified together, the one that saves most; None where there is none.

    Each of our K searches is tested in sequence at `delta / K`, so that with probability
    `1 - delta` no promise of any of them is wrong, whichever is taken afterwards (Bonferroni).
    A search that fails at its first step, the luckiest of many candidates on the tuning images,
    then leaves the others standing.
    """
    searched = [one for one in of_origin(benchmark.rules, "ours") if one.chosen.search.path]
    found = [_promised(one, len(searched), benchmark, store) for one in searched]
    best = max(filter(None, found), key=lambda one: one[0], default=None)
    if best is None:
        return None
    saving, result, plan, certificate = best
    (tested,) = store.outcomes("test", [plan])
    return CertifiedPlanResult(result.score.rule, saving, certificate, Measured.of(plan, tested))


def _promised(
    result: RuleResult, searches: int, benchmark: ModelBenchmark, store: Store
) -> tuple[float, RuleResult, SkipPlan, Certificate] | None:
    """(saving, search, plan, certificate) of a search at its share of delta."""
    path, share = result.chosen.search.path, benchmark.delta / searches
    found = certify_stored(path, store, epsilon=benchmark.epsilon, delta=share)
    if found.certificate is None:
        return None
    said = f"one of {searches} searches, each at delta {benchmark.delta:g} / {searches}"
    checked = (*found.certificate.checked, said)
    certificate = replace(found.certificate, delta=benchmark.delta, checked=checked)
    saving = next(step.saving for step in path if step.plan == found.plan)
    return saving, result, found.plan, certificate
