"""The certified plan of a model, corrected for the search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from estimators.record import Record
from theory import Certificate
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.claims.comparisons import of_origin
from vlm_bridge.experiments.rule_benchmark import (
    ModelBenchmark,
    Store,
    certify_stored,
    compare_on_test,
)


@dataclass(frozen=True)
class CertifiedPlanResult(Record):
    """A certified plan, and its result on test images.

    Attributes:
        rule: our rule whose search chose the plan.
        saving: share of the prefill's work that the plan saves.
        certificate: corrected for the number of searches.
        tested: the plan against the full model on the test images.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("mode",)

    rule: str
    saving: float
    certificate: Certificate
    tested: Comparison

    @property
    def mode(self) -> str:
        """Mode of the plan."""
        return self.tested.plan.mode


def best_certified(benchmark: ModelBenchmark, store: Store) -> CertifiedPlanResult | None:
    """The certified plan of our rules that saves most; None if nothing is certified.

    Each of our K searches is tested in sequence at `delta / K`. With probability `1 - delta` no
    certificate is wrong, so any may be chosen afterwards (Bonferroni). A search whose first step
    fails leaves the other searches valid.
    """
    epsilon, delta = benchmark.epsilon, benchmark.delta
    searched = [r for r in of_origin(benchmark.rules, "ours") if r.chosen.search.path]
    k, certified = len(searched), []
    for result in searched:
        path = result.chosen.search.path
        search = certify_stored(path, store, epsilon=epsilon, delta=delta / k)
        if search.certificate is not None:
            step = next(step for step in path if step.plan == search.plan)
            certified.append((step, search.certificate, result.score.rule))
    if not certified:
        return None
    step, certificate, rule = max(certified, key=lambda each: each[0].saving)
    note = f"one of {k} searches, each at delta {delta:g} / {k}"
    certificate = replace(certificate, delta=delta, checked=(*certificate.checked, note))
    (tested,) = compare_on_test(store, [step.plan])
    return CertifiedPlanResult(rule, step.saving, certificate, tested)
