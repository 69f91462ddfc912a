"""The claim on several models, and results of earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.claims.run import ClaimsSettings, check_claims
from vlm_bridge.experiments.rule_benchmark import Sizes, load_case
from vlm_bridge.runtime.files import read_record
from vlm_bridge.runtime.machine import machine


def check_models(
    names: Sequence[str],
    data: str,
    sizes: Sizes,
    settings: ClaimsSettings,
    *,
    on_model: Callable[[ClaimsResult], None] = lambda _: None,
) -> ClaimsResult:
    """`check_claims` on every model.

    Args:
        names: as for `load`, or "toy".
        data: name of a task set.
        sizes: number of images of each split.
        settings: what is measured, and how.
        on_model: called after every model with all results so far.

    Raises:
        BridgeError: no models, a model named twice, or as `check_claims`.
    """
    if not names or len(set(names)) < len(names):
        raise BridgeError(f"name models, each once; got {', '.join(names) or 'none'}")
    models: list[ModelClaims] = []
    for name in names:
        models.append(check_claims(load_case(name, data, sizes), settings))
        on_model(ClaimsResult(tuple(models), machine()))
    return ClaimsResult(tuple(models), machine())


def read_claims(path: Path) -> ClaimsResult:
    """Read the file of an earlier run.

    Raises:
        BridgeError: the file is missing or holds no such result.
    """
    return read_record(path, ClaimsResult, "result of `skipit claims`")


def joined(parts: Sequence[ClaimsResult]) -> ClaimsResult:
    """Several runs as one: models in order, commands joined, the machine of the first run.

    Raises:
        BridgeError: no runs, or a model on the same task set in two of them.
    """
    models = [model for part in parts for model in part.models]
    names = [(model.benchmark.model, model.data) for model in models]
    if not parts or len(set(names)) < len(names):
        raise BridgeError(f"each model counts once on a task set; got {names}")
    command = "; ".join(str(part.machine["command"]) for part in parts)
    return ClaimsResult(tuple(models), {**parts[0].machine, "command": command})
