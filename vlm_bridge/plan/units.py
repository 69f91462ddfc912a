"""The single units that a rule scores, and their union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import KEEP, MODES, RULE_MODES
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER


def units(mode: str, n_layers: int, *, keep: float = KEEP, stack: str = DECODER) -> list[SkipPlan]:
    """The single units of a mode of `RULE_MODES`, in the order in which a rule scores them.

    `block`, `freeze`: one layer each. `sublayer`: attention of layer 0, its MLP, attention of
    layer 1 and so on. `early_exit`, `late_entry`, `token_pruning`: the depths 1 to L - 1.
    `keep` is the share of vision tokens kept, for `token_pruning`; `n_layers` is that of `stack`.

    Raises:
        BridgeError: another mode, one that the stack does not have, or fewer than two layers.

    Example:
        >>> [unit.exit for unit in units("early_exit", 4)]
        [1, 2, 3]
        >>> units("sublayer", 2)[1].describe()
        'skip MLP of layer 0 (sublayer, 2 layers)'
        >>> units("block", 4, stack="audio")[2].describe()
        'skip layer 2 (1 of 4) of the audio encoder'
    """
    if n_layers < 2:
        raise BridgeError(f"rules rank layers against each other, got n_layers={n_layers}")
    if mode not in RULE_MODES:
        raise BridgeError(f"rules have no mode '{mode}'; they have {', '.join(RULE_MODES)}")
    record = MODES[mode]
    places = range(1 if record.by == "depth" else 0, n_layers)
    return [
        SkipPlan(mode, n_layers, stack=stack, **fields)
        for at in places
        for fields in record.at(at, keep)
    ]


def union(plans: Sequence[SkipPlan]) -> SkipPlan:
    """The union of plans of the same layer-wise mode, and of the images that they come from.

    Plans of several stacks are joined stack by stack.

    >>> union(units("block", 4)[1:3]).layers
    (1, 2)
    """
    mode, stack = plans[0].mode, plans[0].stack
    if rest := [plan for plan in plans if plan.stack != stack]:
        return SkipPlan.compose(union([p for p in plans if p.stack == stack]), union(rest))
    fields: dict[str, Any] = {
        name: tuple(sorted({layer for plan in plans for layer in getattr(plan, name)}))
        for name in MODES[mode].takes
    }
    provenance = Provenance.union(*(plan.provenance for plan in plans))
    return SkipPlan(mode, plans[0].n_layers, **fields, stack=stack, provenance=provenance)


def empty_plan(mode: str, n_layers: int, *, stack: str = DECODER) -> SkipPlan:
    """The plan of a mode that skips nothing.

    >>> [empty_plan(mode, 4).is_empty for mode in RULE_MODES]
    [True, True, True, True, True, True, True, True]
    """
    return SkipPlan(mode, n_layers, **MODES[mode].empty(n_layers), stack=stack)


def unit_place(unit: SkipPlan) -> float:
    """Depth of a single unit: its layer, or its depth; half a layer further for an MLP.

    >>> unit_place(SkipPlan("early_exit", 4, exit=3)), unit_place(SkipPlan("sublayer", 4, mlp=(2,)))
    (3.0, 2.5)
    """
    for depth in (unit.exit, unit.entry, unit.after):
        if depth is not None:
            return float(depth)
    layer = (unit.layers or unit.attention or unit.mlp)[0]
    return layer + (0.5 if unit.mlp else 0.0)
