"""`Operation`: what a plan comes down to in one layer, and which plans no layer can obey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_bridge.errors import BridgeError

#: (mode that asks, layer, changed fields of its `Operation`).
Change = tuple[str, int, dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """How one decoder layer runs. The default leaves it as it is.

    Attributes:
        bypass: the layer is left out for all tokens.
        tokens: which tokens exist in the layer: `all`; `text` (no vision); `kept` (text and
            the vision tokens that token pruning kept).
        freeze: vision tokens that exist here are not updated; text attends to them.
        attention: False leaves the residual update of the attention out.
        mlp: False leaves the residual update of the MLP out.

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
    """One operation per layer.

    A layer that is left out for all tokens needs no word about which of them exist there.

    Args:
        n_layers: depth of the decoder.
        changes: what the parts of a plan ask of the layers they name.
        scored: the layer whose attention token pruning reads, if any.

    Raises:
        BridgeError: two parts ask of a layer what it cannot do at once; it is named.
    """
    found = [Operation()] * n_layers
    askers: list[dict[str, str]] = [{} for _ in range(n_layers)]
    for mode, layer, change in changes:
        found[layer] = replace(found[layer], **change)
        askers[layer].update(dict.fromkeys(change, mode))
    for layer, asked in enumerate(askers):
        _check(layer, asked, layer == scored)
        if found[layer].bypass:
            found[layer] = Operation(bypass=True)
    return tuple(found)


def _check(layer: int, asked: dict[str, str], scored: bool) -> None:
    """Refuse what `asked` (field of the operation -> mode) cannot mean together."""
    inner = [asked[name] for name in ("freeze", "attention", "mlp") if name in asked]
    if "bypass" in asked and inner:
        raise BridgeError(
            f"layer {layer}: block leaves the whole layer out, so {inner[0]} cannot apply there"
        )
    if "freeze" in asked and asked.get("tokens") not in (None, "token_pruning"):
        raise BridgeError(
            f"layer {layer}: {asked['tokens']} takes the vision tokens out there, so they cannot "
            "be frozen"
        )
    missing = [asked[name] for name in ("bypass", "freeze", "attention") if name in asked]
    if scored and missing:
        raise BridgeError(
            f"layer {layer}: token_pruning reads its score from this layer's attention, which "
            f"{missing[0]} does not compute for every token"
        )
