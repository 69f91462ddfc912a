"""`Operation`: how one layer runs under a plan; contradictory plans are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_bridge.errors import BridgeError

#: Fields of `Operation` that are about modality tokens that exist in the layer.
_OF_MODALITY = ("modality_attention", "modality_mlp")
#: (mode, layer, fields of the layer's `Operation` that the mode changes).
Change = tuple[str, int, dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """How one decoder layer runs. The default is the full model's.

    Attributes:
        bypass: the layer is skipped for all tokens.
        tokens: which tokens exist in the layer: `all`; `text` (no modality tokens); `kept`
            (text and the modality tokens that pruning keeps).
        attention: False skips the residual update of the attention, for all tokens.
        mlp: False skips the residual update of the MLP, for all tokens.
        modality_attention: False skips that of the attention for modality tokens that exist here;
            their keys and values stay, and text attends to them.
        modality_mlp: False skips that of the MLP for modality tokens.
        stage: which stage of pruning chose the tokens that are `kept`, from 0.

    Example:
        >>> Operation(tokens="text", mlp=False)
        Operation(bypass=False, tokens='text', attention=True, mlp=False, modality_attention=True,
        modality_mlp=True, stage=0)
    """

    bypass: bool = False
    tokens: Literal["all", "text", "kept"] = "all"
    attention: bool = True
    mlp: bool = True
    modality_attention: bool = True
    modality_mlp: bool = True
    stage: int = 0

    @property
    def freeze(self) -> bool:
        """Modality tokens are not updated at all."""
        return not (self.modality_attention or self.modality_mlp)

    @property
    def of_modality(self) -> bool:
        """Something is skipped for modality tokens only, which exist here."""
        return not (self.modality_attention and self.modality_mlp)


def compiled(
    n_layers: int, changes: Iterable[Change], scored: Mapping[int, str]
) -> tuple[Operation, ...]:
    """The operation of every layer; changes that contradict each other are a `BridgeError`.

    `scored` has the layers from whose attention a mode takes its score, with the mode.
    """
    operations = [Operation()] * n_layers
    modes: list[dict[str, str]] = [{} for _ in range(n_layers)]
    for mode, layer, change in changes:
        operations[layer] = replace(operations[layer], **change)
        modes[layer].update(dict.fromkeys(change, mode))
    for layer, changed in enumerate(modes):
        _check(layer, changed, operations[layer], scored.get(layer))
        if operations[layer].bypass:
            operations[layer] = Operation(bypass=True)
    return tuple(operations)


def _check(layer: int, changed: dict[str, str], made: Operation, scored: str | None) -> None:
    """Refuse changes (field of the operation -> mode) that contradict each other."""
    of_modality = [changed[name] for name in _OF_MODALITY if name in changed]
    inner = [*of_modality, *(changed[name] for name in ("attention", "mlp") if name in changed)]
    if "bypass" in changed and inner:
        raise BridgeError(
            f"layer {layer}: block leaves the whole layer out, so {inner[0]} cannot apply there"
        )
    if of_modality and made.tokens == "text":
        raise BridgeError(
            f"layer {layer}: {changed['tokens']} takes the modality tokens out there, so "
            f"{of_modality[0]} has none to skip"
        )
    cuts = ("bypass", "attention", "modality_attention")
    missing = [changed[name] for name in cuts if name in changed]
    if scored and missing:
        raise BridgeError(
            f"layer {layer}: {scored} reads its score from this layer's attention, which "
            f"{missing[0]} does not compute for every token"
        )
