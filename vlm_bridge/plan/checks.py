"""Checks of a plan's fields: their types, their ranges, and whether its parts go together."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

from vlm_bridge.errors import BridgeError, among, shown
from vlm_bridge.plan.modes import (
    DEPTHS,
    ENCODER_MODES,
    LISTS,
    MODES,
    PRUNING_MODES,
    TOKEN_MODES,
    PlanFields,
    Stages,
)
from vlm_bridge.plan.selectors import FASTV, read_selector
from vlm_bridge.plan.stacks import DECODER, STACKS

#: Most layers of a plan; the deepest transformers have about 1,000.
MAX_LAYERS = 10_000
#: Most parts of a composed plan: every mode of the decoder, and those of each encoder.
MAX_PARTS = len(MODES) + len(ENCODER_MODES) * (len(STACKS) - 1)
#: Order of modes in a composed plan: the mode that places modality tokens comes first.
_MODE_ORDER = (*TOKEN_MODES, *(mode for mode in MODES if mode not in TOKEN_MODES))


def part_order(part: PlanFields) -> tuple[int, int]:
    """The place of a part in a composed plan: by stack, then by mode."""
    return list(STACKS).index(part.stack), _MODE_ORDER.index(part.mode)


def typed_fields(plan: PlanFields) -> dict[str, Any]:
    """The fields of a plan as int, tuples of int, and float; other types are a `BridgeError`."""
    for name in ("mode", "stack"):
        if not isinstance(value := getattr(plan, name), str):
            raise BridgeError(f"{name} must be text, got {shown(value)}")
    n_layers = _whole("n_layers", plan.n_layers)
    if not 1 <= n_layers <= MAX_LAYERS:
        least = "a plan needs at least one layer" if n_layers < 1 else "no decoder is so deep"
        raise BridgeError(f"{least}; n_layers is 1 to {MAX_LAYERS}, got {shown(n_layers)}")
    typed: dict[str, Any] = {"n_layers": n_layers}
    for name in LISTS:
        typed[name] = _layers(name, getattr(plan, name))
    for name in DEPTHS:
        depth = getattr(plan, name)
        typed[name] = None if depth is None else _whole(name, depth)
    typed["keep"] = None if plan.keep is None else _share("keep", plan.keep)
    if not isinstance(plan.select, str | None):
        raise BridgeError(f"select must be text, got {shown(plan.select)}")
    if plan.mode in PRUNING_MODES and plan.select is None:
        typed["select"] = FASTV
    typed["stages"] = _stages(plan.stages)
    if "entry" in MODES.get(plan.mode, MODES["block"]).may_take:  # those that say nothing
        typed["entry"] = typed["entry"] or None
        typed["exit"] = None if typed["exit"] == n_layers else typed["exit"]
    return typed


def check_fields(plan: PlanFields) -> None:
    """Raise a `BridgeError` unless a single plan has the fields of its mode, in range."""
    if plan.mode not in MODES:
        raise BridgeError(f"unknown mode {shown(plan.mode)}; {among(plan.mode, MODES)}")
    if plan.stack not in STACKS:
        raise BridgeError(f"unknown stack {shown(plan.stack)}; choose from {', '.join(STACKS)}")
    if plan.stack != DECODER and plan.mode not in ENCODER_MODES:
        raise BridgeError(
            f"{plan.mode} skips modality tokens of the decoder; the {STACKS[plan.stack]} has "
            f"{' and '.join(ENCODER_MODES)} (to leave it early is to block its last layers)"
        )
    takes, may_take = MODES[plan.mode].takes, MODES[plan.mode].may_take
    for name in (*LISTS, *DEPTHS, "keep", "select", "stages"):
        given = getattr(plan, name) not in ((), None)
        if name in takes and not given and name not in LISTS:
            raise BridgeError(f"{plan.mode} needs '{name}'")
        if given and name not in (*takes, *may_take):
            raise BridgeError(f"{plan.mode} takes no '{name}'")
    for name in LISTS:
        layers = getattr(plan, name)
        if list(layers) != sorted(set(layers)):
            raise BridgeError(f"{name} must be ascending without repeats, got {shown(layers)}")
        if outside := [layer for layer in layers if not 0 <= layer < plan.n_layers]:
            raise BridgeError(
                f"layer {shown(outside[0])} is out of range; "
                f"the model has layers 0 to {plan.n_layers - 1}"
            )
    for name, least in DEPTHS.items():
        depth = getattr(plan, name)
        if depth is not None and not least <= depth <= plan.n_layers:
            raise BridgeError(f"{name} {shown(depth)} is out of range {least} to {plan.n_layers}")
    if plan.keep is not None and not 0 < plan.keep < 1:
        raise BridgeError(f"keep {plan.keep} is not between 0 and 1, both excluded")
    _check_stages(plan)
    if plan.select is not None and read_selector(plan.select)[0].reads == "attention":
        if plan.pruning[0][0] == 0:
            depth = "the first depth of stages" if plan.stages else "after"
            raise BridgeError(
                f"{plan.select} reads the attention of the layer before, and there is none before "
                f"layer 0; {depth} is 1 to {plan.n_layers}, or select another selector"
            )
    if plan.mode == "band" and not int(plan.entry or 0) < int(plan.exit or 0):
        raise BridgeError(f"band: entry {plan.entry} is not before exit {plan.exit}")


def _check_stages(plan: PlanFields) -> None:
    """Refuse stages whose depths or shares are out of range or out of order."""
    for depth, keep in plan.stages:
        if not 0 <= depth <= plan.n_layers:
            raise BridgeError(
                f"depth {shown(depth)} in 'stages' is out of range 0 to {plan.n_layers}"
            )
        if not 0 < keep < 1:
            raise BridgeError(f"share {keep} in 'stages' is not between 0 and 1, both excluded")
    for (depth, keep), (deeper, fewer) in pairwise(plan.stages):
        if deeper <= depth:
            raise BridgeError(
                f"depths of 'stages' must rise from stage to stage, got {deeper} after {depth}"
            )
        if fewer >= keep:
            raise BridgeError(
                f"shares of 'stages' must fall from stage to stage, got {fewer} after {keep}; they "
                "are shares of all modality tokens of the sequence"
            )
    if not plan.stages:
        return
    first, last = plan.stages[0][0], plan.stages[-1][0]
    if plan.entry and plan.entry >= first:
        raise BridgeError(f"entry {plan.entry} is not before the first depth of 'stages', {first}")
    if plan.exit is not None and plan.exit <= min(last, plan.n_layers - 1):
        raise BridgeError(f"exit {plan.exit} is not behind the last depth of 'stages', {last}")


def check_parts(plan: PlanFields, parts: Sequence[PlanFields]) -> None:
    """Raise a `BridgeError` unless single plans can be joined into the composed `plan`."""
    depths: dict[str, int] = {}
    for part in parts:
        if part.mode not in MODES:
            raise BridgeError(f"a part must be a single plan, got '{part.mode}'; use compose")
        if part.n_layers != depths.setdefault(part.stack, part.n_layers):
            raise BridgeError(
                f"the part {part.mode} was made for {part.n_layers} layers, "
                f"the plan for {depths[part.stack]}"
            )
    places = [part_order(part) for part in parts]
    for part, place in zip(parts, places, strict=True):
        if places.count(place) > 1:
            where = "" if part.stack == DECODER else f" of the {STACKS[part.stack]}"
            raise BridgeError(f"two parts{where} are of mode '{part.mode}'; make them one plan")
    modes = [part.mode for part in parts]
    placing = [mode for mode in modes if mode in TOKEN_MODES][:2]
    if len(placing) > 1:
        hint = ""
        if "progressive_pruning" in placing:
            hint = "; progressive_pruning takes 'entry' and 'exit' of its own"
        raise BridgeError(
            f"{' and '.join(placing)} both place modality tokens; choose one of them{hint}"
        )
    if plan.n_layers != sum(depths.values()):
        raise BridgeError(
            f"the parts were made for {sum(depths.values())} layers, the plan for {plan.n_layers}"
        )
    for name, joined in (("mode", "+".join(modes)), ("stack", "+".join(depths))):
        if (given := getattr(plan, name)) != joined or places != sorted(places):
            raise BridgeError(
                f"{name} {shown(given)} is not that of its parts; use SkipPlan.compose"
            )


def joined_fields(plan: PlanFields, parts: Sequence[PlanFields]) -> dict[str, Any]:
    """Fields of a composed plan: the union of lists, and the only value of any other field.

    A plan of several stacks has none of them: a layer's number says nothing without its stack.
    A field of `plan` itself that says something else is a `BridgeError`.
    """
    if len({part.stack for part in parts}) > 1:
        parts = ()
    joined: dict[str, Any] = {
        name: tuple(sorted({layer for part in parts for layer in getattr(part, name)}))
        for name in LISTS
    }
    for name, none in (*dict.fromkeys((*DEPTHS, "keep", "select")).items(), ("stages", ())):
        values = (getattr(part, name) for part in parts)
        joined[name] = next((value for value in values if value not in ((), None)), none)
    for name, value in joined.items():
        if (given := getattr(plan, name)) not in ((), None, value):
            raise BridgeError(
                f"{name} {shown(given)} is not that of the parts, {shown(value)}; "
                "give the fields of a composed plan in its parts only"
            )
    return joined


def _whole(name: str, value: Any) -> int:
    """A whole number of any integer type; fractions, truth values and text are refused."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise BridgeError(f"{name} must be a whole number, got {shown(value)}") from None


def _layers(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise BridgeError(f"{name} must be a list of layers, got {shown(values)}")
    some = list(islice(values, MAX_LAYERS + 1))
    if len(some) > MAX_LAYERS:
        raise BridgeError(f"{name} has more than {MAX_LAYERS} layers; no decoder is so deep")
    return tuple(_whole(f"a layer in '{name}'", value) for value in some)


def _share(name: str, value: Any) -> float:
    """A number of any real type as float; truth values and text are refused."""
    if isinstance(value, bool | str | bytes) or not hasattr(type(value), "__float__"):
        raise BridgeError(f"{name} must be a number, got {shown(value)}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BridgeError(f"{name} must be a number, got {shown(value)}") from None


def _stages(values: Any) -> Stages:
    """Pairs of a whole number and a number; anything else is refused."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise BridgeError(f"stages must be a list of pairs (depth, share), got {shown(values)}")
    pairs = list(islice(values, MAX_LAYERS + 2))
    if len(pairs) > MAX_LAYERS + 1:
        raise BridgeError(f"stages has more than {MAX_LAYERS + 1} pairs; no decoder is so deep")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BridgeError(f"a stage is a pair (depth, share), got {shown(pair)}")
    return tuple(
        (_whole("a depth in 'stages'", depth), _share("a share in 'stages'", keep))
        for depth, keep in pairs
    )
