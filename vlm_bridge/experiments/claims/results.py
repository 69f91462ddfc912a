"""What was confirmed or refuted, model by model; tables, plots and conclusions read these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators.record import Record
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import CertifiedPlanResult
from vlm_bridge.experiments.claims.control import Control
from vlm_bridge.experiments.claims.converse import Converse
from vlm_bridge.experiments.claims.nulls import Null
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.claims.speed import PlanSpeed
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark


@dataclass(frozen=True)
class ModelClaims(Record):
    """Everything that was measured on one model.

    Attributes:
        data: name of the task set.
        benchmark: truth of every unit, scores and certified plan of every rule.
        accuracies: on the test images, with the baselines.
        certified: the plan of ours that is certified; None where there is none.
        speed: of that plan.
        overlaps: of every ranking of ours.
        controls: of every layer-wise ranking of ours.
        converses: of every ranking of ours and of every distance.
        nulls: random weights, shuffled images.
    """

    data: str
    benchmark: ModelBenchmark
    accuracies: Accuracies
    certified: CertifiedPlanResult | None
    speed: PlanSpeed | None
    overlaps: tuple[Overlap, ...]
    controls: tuple[Control, ...]
    converses: tuple[Converse, ...]
    nulls: tuple[Null, ...]


@dataclass(frozen=True)
class ClaimsResult(Record):
    """All models.

    Attributes:
        models: one for each; nothing is pooled over them.
        machine: what it ran on, and the command.
    """

    models: tuple[ModelClaims, ...]
    machine: Mapping[str, Any]
