"""Evidence on the claim, model by model, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators.record import Record
from vlm_bridge.cost import Cost
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import CertifiedPlanResult
from vlm_bridge.experiments.claims.control import Control
from vlm_bridge.experiments.claims.converse import Converse
from vlm_bridge.experiments.claims.nulls import Null
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark


@dataclass(frozen=True)
class ModelClaims(Record):
    """Evidence on the claim from one model.

    Attributes:
        data: name of the task set.
        benchmark: truth of every unit, scores and certified plan of every rule.
        accuracies: accuracy on the test images, with baselines.
        certified: the certified plan of our rules; None if nothing was certified.
        cost: cost of that plan.
        overlaps: one entry for every ranking of ours with published methods to compare with.
        controls: one entry for every layer-wise ranking of ours.
        converses: one or two entries for every ranking of ours and every distance.
        nulls: random weights and shuffled images.
    """

    data: str
    benchmark: ModelBenchmark
    accuracies: Accuracies
    certified: CertifiedPlanResult | None
    cost: Cost | None
    overlaps: tuple[Overlap, ...]
    controls: tuple[Control, ...]
    converses: tuple[Converse, ...]
    nulls: tuple[Null, ...]


@dataclass(frozen=True)
class ClaimsResult(Record):
    """Evidence on the claim from all models.

    Attributes:
        models: one entry for each model; nothing is pooled over models.
        machine: hardware, versions, and the command.
    """

    models: tuple[ModelClaims, ...]
    machine: Mapping[str, Any]
