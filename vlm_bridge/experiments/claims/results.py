"""Evidence on the claim, model by model, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators.record import Record
from vlm_bridge.cost import Cost
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.accuracy import Accuracies
from vlm_bridge.experiments.claims.certified_plan import CertifiedPlanResult
from vlm_bridge.experiments.claims.control import Control
from vlm_bridge.experiments.claims.converse import Converse
from vlm_bridge.experiments.claims.nulls import Null
from vlm_bridge.experiments.claims.overlap import Overlap
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark
from vlm_bridge.runtime.files import read_record


@dataclass(frozen=True)
class ModelClaims(Record):
    """Evidence on the claim from a model.

    Attributes:
        data: name of the task set.
        benchmark: truth of every unit, scores and certified plan of every rule.
        accuracies: accuracy on the test images, with baselines.
        certified: the certified plan of our rules; None if nothing was certified.
        cost: cost of that plan.
        overlaps: of each of our rankings that has published methods to compare with.
        controls: of each of our layer-wise rankings.
        converses: one or two for each of our rankings and each distance.
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


def read_claims(path: Path) -> ClaimsResult:
    """Read `claims.json`; a BridgeError if it is missing or holds no such result."""
    return read_record(path, ClaimsResult, "result of `skipit claims`")


def joined(parts: Sequence[ClaimsResult]) -> ClaimsResult:
    """Join several runs: models in order, commands joined, the machine of the first run.

    Raises:
        BridgeError: no runs, or a model on the same task set in two runs.
    """
    models = [model for part in parts for model in part.models]
    names = [(model.benchmark.model, model.data) for model in models]
    if not parts or len(set(names)) < len(names):
        raise BridgeError(f"each model counts once on a task set; got {names}")
    command = "; ".join(str(part.machine["command"]) for part in parts)
    return ClaimsResult(tuple(models), {**parts[0].machine, "command": command})
