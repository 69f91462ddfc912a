"""`Operation`: how one layer runs under a plan; contradictory plans are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_bridge.errors import BridgeError

#: (mode, layer, fields of the layer's `Operation` that the mode changes).
Change = tuple[str, int, dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """How one decoder layer runs. The default is the full model's.

    Attributes:
        bypass: the layer is skipped for all tokens.
        tokens: which tokens exist in the layer: `all`; `text` (no modality tokens); `kept`
            (text and the modality tokens that token pruning keeps).
        freeze: modality tokens that exist here are not updated; text attends to them.
        attention: False skips the residual update of the attention.
        mlp: False skips the residual update of the MLP.

    Example:
        >>> Operation(tokens="text", mlp=False)
        Operation(bypass=False, tokens='text', freeze=False, attention=True, mlp=False)
    """

    bypass: bool = False
    tokens: Literal["all", "text", "kept"] = "all"
    freeze: bool = False
    attention: bool = True
    mlp: bool = True


def compiled(n_layers: int, changes: Iterable[Change], scored: int | None) -> tuple[Operation, ...]:
    """The operation of every layer; changes that contradict each other are a `BridgeError`.

    `scored` is the layer from whose attention token pruning takes its score, if any.
    """
    operations = [Operation()] * n_layers
    modes: list[dict[str, str]] = [{} for _ in range(n_layers)]
    for mode, layer, change in changes:
        operations[layer] = replace(operations[layer], **change)
        modes[layer].update(dict.fromkeys(change, mode))
    for layer, changed in enumerate(modes):
        _check(layer, changed, layer == scored)
        if operations[layer].bypass:
            operations[layer] = Operation(bypass=True)
    return tuple(operations)


def _check(layer: int, changed: dict[str, str], scored: bool) -> None:
    """Refuse changes (field of the operation -> mode) that contradict each other."""
    inner = [changed[name] for name in ("freeze", "attention", "mlp") if name in changed]
    if "bypass" in changed and inner:
        raise BridgeError(
            f"layer {layer}: block leaves the whole layer out, so {inner[0]} cannot apply there"
        )
    if "freeze" in changed and changed.get("tokens") not in (None, "token_pruning"):
        raise BridgeError(
            f"layer {layer}: {changed['tokens']} takes the modality tokens out there, so they "
            "cannot be frozen"
        )
    missing = [changed[name] for name in ("bypass", "freeze", "attention") if name in changed]
    if scored and missing:
        raise BridgeError(
            f"layer {layer}: token_pruning reads its score from this layer's attention, which "
            f"{missing[0]} does not compute for every token"
        )
