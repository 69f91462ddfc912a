"""Plans of the size of a given plan that no measurement chose: random ones, and the deepest."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import LAYERWISE, MODES, PRUNING_MODES
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.selectors import FASTV, read_selector
from vlm_bridge.plan.skip_plan import SkipPlan

#: Random plans that a plan is compared with.
DRAWS = 20


def random_plans(
    plan: SkipPlan, *, draws: int = DRAWS, seed: int = 0, held_out: tuple[int, ...] = ()
) -> list[SkipPlan]:
    """Different plans of the mode and size of `plan`, drawn uniformly, without `plan` itself.

    Of modes of layers as many layers (attentions, MLPs) as the plan skips; of pruning the same
    shares at the same depths, chosen by `random:SEED`. Fewer than `draws` if there are not so
    many. Layers in `held_out` are not drawn, and stay in the plans where `plan` skips them.

    Raises:
        BridgeError: a plan of a depth, of which there is one of each size; a composed plan; a plan
            that skips nothing.

    Example:
        >>> [one.layers for one in random_plans(SkipPlan("block", 3, layers=(2,)))]
        [(1,), (0,)]
    """
    _check(plan)
    if draws < 0:
        raise BridgeError(f"a number of draws is at least 0, got {draws}")
    if wrong := [layer for layer in held_out if not 0 <= layer < plan.n_layers]:
        raise BridgeError(f"layer {wrong[0]} is held out, and layers are 0 to {plan.n_layers - 1}")
    if plan.mode in PRUNING_MODES:
        own = read_selector(plan.select or FASTV)
        names = (f"random:{seed + number}" for number in range(draws + 1))
        others = (name for name in names if read_selector(name) != own)
        return [_bare(plan, select=name) for name in others][:draws]
    free = [layer for layer in range(plan.n_layers) if layer not in held_out]
    drawn = {name: [i for i in getattr(plan, name) if i in free] for name in MODES[plan.mode].takes}
    fixed = {name: [i for i in getattr(plan, name) if i not in free] for name in drawn}
    possible = math.prod(math.comb(len(free), len(chosen)) for chosen in drawn.values()) - 1
    draw, found = random.Random(f"random plans/{seed}"), dict[str, SkipPlan]()
    while len(found) < min(draws, possible):
        fields = {
            name: tuple(sorted([*fixed[name], *draw.sample(free, len(chosen))]))
            for name, chosen in drawn.items()
        }
        if (one := _bare(plan, **fields)) != plan:
            found[one.hash()] = one
    return list(found.values())


def deepest_plan(plan: SkipPlan, *, held_out: tuple[int, ...] = ()) -> SkipPlan:
    """The plan of the mode and size of `plan` that skips the last layers (attentions, MLPs).

    Layers in `held_out` stay as they are in `plan`.

    Raises:
        BridgeError: as `random_plans`, and pruning, which names no layers.

    Example:
        >>> deepest_plan(SkipPlan("freeze", 8, layers=(1, 2, 5))).layers
        (5, 6, 7)
    """
    _check(plan)
    if plan.mode not in LAYERWISE:
        raise BridgeError(f"{plan.mode} names no layers, so that none of them are the deepest")
    free = [layer for layer in range(plan.n_layers) if layer not in held_out]
    fields: dict[str, Any] = {}
    for name in MODES[plan.mode].takes:
        fixed = [layer for layer in getattr(plan, name) if layer in held_out]
        count = len(getattr(plan, name)) - len(fixed)
        fields[name] = tuple(sorted([*fixed, *free[len(free) - count :]]))
    return _bare(plan, **fields)


def _check(plan: SkipPlan) -> None:
    if plan.parts:
        raise BridgeError(
            f"controls of equal size are drawn for one mode in one stack, not for {plan.mode}; "
            "compare its parts one by one"
        )
    if plan.is_empty:
        raise BridgeError("a plan that skips nothing has no controls of its size")
    if plan.mode not in (*LAYERWISE, *PRUNING_MODES):
        raise BridgeError(f"{plan.mode} has one plan of each size, so that no other can be drawn")


def _bare(plan: SkipPlan, **fields: Any) -> SkipPlan:
    """The plan with other fields, of no origin: no measurement chose it."""
    return replace(plan, **fields, provenance=Provenance())
