"""Run the protocol on several models, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.results import ClaimsResult, ModelClaims
from vlm_bridge.experiments.claims.run import Given, check_claims
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.runtime.machine import machine


def check_models(
    names: Sequence[str],
    load: Callable[[str], Given],
    settings: ClaimsSettings,
    *,
    on_model: Callable[[ClaimsResult], None] = lambda _: None,
) -> ClaimsResult:
    """`check_claims` on every model.

    Args:
        names: of the models.
        load: name -> model and questions; called when the model's turn comes.
        settings: of every model.
        on_model: called after every model with all results so far.

    Raises:
        BridgeError: no models, or a model named twice.
    """
    if not names or len(set(names)) < len(names):
        raise BridgeError(f"name models, each once; got {', '.join(names) or 'none'}")
    models: list[ModelClaims] = []
    for name in names:
        models.append(check_claims(load(name), settings))
        on_model(ClaimsResult(tuple(models), machine()))
    return ClaimsResult(tuple(models), machine())
