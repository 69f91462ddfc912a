"""The single units that a rule scores, and what becomes of several of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.skip_plan import SkipPlan

#: Modes a rule can score: the others are made of these.
RULE_MODES = ("block", "freeze", "sublayer", "early_exit", "late_entry", "token_pruning")
#: Share of vision tokens that units of `token_pruning` keep unless the rule says otherwise.
KEEP = 0.5


def units(mode: str, n_layers: int, *, keep: float = KEEP) -> list[SkipPlan]:
    """The single units of a mode, in the order in which a rule scores them.

    `block`, `freeze`: one layer each. `sublayer`: attention of layer 0, its MLP, attention of
    layer 1 and so on. `early_exit`, `late_entry`, `token_pruning`: the depths 1 to L - 1.

    Args:
        mode: one of `RULE_MODES`.
        n_layers: depth of the decoder, at least 2.
        keep: share of vision tokens kept, for `token_pruning`.

    Raises:
        BridgeError: another mode, or fewer than two layers.

    Example:
        >>> [unit.exit for unit in units("early_exit", 4)]
        [1, 2, 3]
        >>> units("sublayer", 2)[1].describe()
        'skip MLP of layers 0 (sublayer, 2 layers)'
    """
    if n_layers < 2:
        raise BridgeError(f"rules rank layers against each other, got n_layers={n_layers}")
    layers, depths = range(n_layers), range(1, n_layers)
    made: dict[str, Iterable[dict[str, Any]]] = {
        "block": ({"layers": (layer,)} for layer in layers),
        "freeze": ({"layers": (layer,)} for layer in layers),
        "sublayer": ({part: (layer,)} for layer in layers for part in ("attention", "mlp")),
        "early_exit": ({"exit": depth} for depth in depths),
        "late_entry": ({"entry": depth} for depth in depths),
        "token_pruning": ({"after": depth, "keep": keep} for depth in depths),
    }
    if mode not in made:
        raise BridgeError(f"rules have no mode '{mode}'; they have {', '.join(RULE_MODES)}")
    return [SkipPlan(mode, n_layers, **fields) for fields in made[mode]]


def union(plans: Sequence[SkipPlan]) -> SkipPlan:
    """One plan that skips what each of these, of one layer-wise mode, skips.

    >>> union(units("block", 4)[1:3]).layers
    (1, 2)
    """
    first = plans[0]

    def joined(name: str) -> tuple[int, ...]:
        return tuple(sorted({layer for plan in plans for layer in getattr(plan, name)}))

    names = ("layers",) if first.mode in ("block", "freeze") else ("attention", "mlp")
    fields: dict[str, Any] = {name: joined(name) for name in names}
    return SkipPlan(first.mode, first.n_layers, **fields)


def empty_plan(mode: str, n_layers: int) -> SkipPlan:
    """The plan of a mode that skips nothing.

    >>> [empty_plan(mode, 4).is_empty for mode in RULE_MODES]
    [True, True, True, True, True, True]
    """
    depth: dict[str, dict[str, Any]] = {
        "early_exit": {"exit": n_layers},
        "late_entry": {"entry": 0},
        "token_pruning": {"after": n_layers, "keep": KEEP},
    }
    return SkipPlan(mode, n_layers, **depth.get(mode, {}))
