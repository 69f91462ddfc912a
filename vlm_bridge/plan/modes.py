"""The ways to skip: one record per mode, read by everything that lists modes.

A new mode needs a record here, the field of `Operation` that its `changes` set, and the plain and
the fast form of that field in `vlm_bridge.skip`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_bridge.plan.selectors import FASTV

#: Share of modality tokens that a unit of `token_pruning` keeps by default.
KEEP = 0.5
#: Fields of a plan that list layers, and fields that are a depth, with the least depth allowed.
LISTS = ("layers", "attention", "mlp")
DEPTHS = {"entry": 0, "exit": 0, "after": 0}
#: Stages of pruning: (depth, share of modality tokens that stay from there on).
Stages = tuple[tuple[int, float], ...]

Fields = dict[str, Any]


@dataclass(frozen=True)
class PlanFields:
    """The fields of a `SkipPlan`, which documents them, that a mode may take."""

    mode: str
    n_layers: int
    layers: tuple[int, ...] = ()
    entry: int | None = None
    exit: int | None = None
    attention: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()
    after: int | None = None
    keep: float | None = None
    select: str | None = None
    stack: str = "decoder"
    stages: Stages = ()

    @property
    def pruning(self) -> Stages:
        """The stages of pruning: those of `stages`, or `after` and `keep` as the only one.

        >>> PlanFields("token_pruning", 4, after=2, keep=0.5).pruning
        ((2, 0.5),)
        """
        if self.after is None or self.keep is None:
            return self.stages
        return ((self.after, self.keep),)


@dataclass(frozen=True)
class Mode:
    """One way to skip. The defaults are those of a mode that lists its layers in `layers`.

    Attributes:
        name: its name in plans and on the command line.
        takes: fields of `SkipPlan` that it needs.
        may_take: fields that it can do without.
        title: name of its units, for figures.
        changes: (layer, changed fields of `Operation`) for each layer that a plan touches. The
            share of work saved (`plan.savings`) and the plain and fast forms follow from them.
        words: describes a plan that skips something in one line; it takes the name of what the
            modality tokens hold, as `Layout.modality` gives it.
        by: `layer` if units can be joined into plans of any layers; `depth` if a unit is a depth
            and plans are nested; `band` if modality tokens exist between two depths; `stages` if
            they become fewer at several depths.
        axis: label of the figures' axis of units.
        at: (layer or depth, share of modality tokens kept) -> the fields of the units there.
        empty: number of layers -> fields of the plan that skips nothing.
        every_token: the mode treats all tokens alike, works with every type of attention, and
            exists in encoders too. The others skip modality tokens, and need attention with a mask
            per query and key.
        deeper_skips_less: the deeper of two depths skips less; None for modes without depths.
        removes: the part of a touched layer's update that a unit removes, one of `REMOVALS`, if one
            full pass measures it; `sublayer` stands for attention or mlp. None if only a run of
            the plan shows it.
    """

    name: str
    takes: tuple[str, ...]
    title: str
    changes: Callable[[PlanFields], Iterable[tuple[int, Fields]]]
    words: Callable[[PlanFields, str], str]
    by: Literal["layer", "depth", "band", "stages"] = "layer"
    axis: str = "layer (0-based)"
    at: Callable[[int, float], list[Fields]] = lambda layer, _: [{"layers": (layer,)}]
    empty: Callable[[int], Fields] = lambda _: {}
    every_token: bool = False
    deeper_skips_less: bool | None = None
    removes: str | None = None
    may_take: tuple[str, ...] = ()


def lacking(mode: str, modality: str) -> str:
    """Why a model whose modality tokens hold `modality` has no use for a mode; empty if it has.

    >>> lacking("freeze", "audio"), lacking("block", "")
    ('', '')
    >>> lacking("freeze", "")
    "its decoder reads no image, video or audio tokens: 'freeze' skips those; use block or sublayer"
    """
    if modality or MODES[mode].every_token:
        return ""
    usable = " or ".join(name for name, record in MODES.items() if record.every_token)
    return f"its decoder reads no image, video or audio tokens: '{mode}' skips those; use {usable}"


def ranges(layers: Iterable[int]) -> str:
    """Ascending layers as ranges.

    >>> ranges([7, 18, 19, 20])
    '7, 18-20'
    """
    runs: list[list[int]] = []
    for layer in layers:
        if not runs or layer != runs[-1][1] + 1:
            runs.append([layer, layer])
        runs[-1][1] = layer
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def named(layers: Sequence[int]) -> str:
    """Layers with their noun.

    >>> named((4,)), named((3, 4))
    ('layer 4', 'layers 3-4')
    """
    return f"layer{'s' * (len(layers) != 1)} {ranges(layers)}"


def _layer_words(verb: str) -> Callable[[PlanFields, str], str]:
    def words(plan: PlanFields, modality: str) -> str:
        count = f"({len(plan.layers)} of {plan.n_layers})"
        return f"{verb.format(modality)} {named(plan.layers)} {count}"

    return words


def _sublayer_words(plan: PlanFields, _: str) -> str:
    lists = {"attention": plan.attention, "MLP": plan.mlp}
    skipped = [f"{name} of {named(layers)}" for name, layers in lists.items() if layers]
    return f"skip {' and '.join(skipped)} (sublayer, {plan.n_layers} layers)"


def _pruning_words(plan: PlanFields, modality: str) -> str:
    by = "" if plan.select in (None, FASTV) else f" by {plan.select}"
    stages = [(depth, share) for depth, share in plan.pruning if depth < plan.n_layers]
    if not stages:  # then something else is skipped
        return (
            f"{modality} tokens enter at layer {plan.entry} ({plan.mode}, {plan.n_layers} layers)"
        )
    (first, keep), *rest = stages
    words = f"keep {_percent(keep)} of {modality} tokens in layers >= {first}"
    later = "".join(f", {_percent(share)} in layers >= {depth}" for depth, share in rest)
    place = f", which enter at layer {plan.entry}" if plan.entry else ""
    if plan.exit is not None:
        place += f"{' and' if place else ', which'} leave after layer {plan.exit - 1}"
    return f"{words}{later}{by}{place} ({plan.mode}, {plan.n_layers} layers)"


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"


def _place_words(where: Callable[[PlanFields], str]) -> Callable[[PlanFields, str], str]:
    def words(plan: PlanFields, modality: str) -> str:
        nowhere = len(list(_outside(plan))) == plan.n_layers
        place = "absent from every layer" if nowhere else where(plan)
        return f"{modality} tokens {place} ({plan.mode}, {plan.n_layers} layers)"

    return words


def _in_layers(**changed: bool) -> Callable[[PlanFields], Iterable[tuple[int, Fields]]]:
    return lambda plan: ((i, changed) for i in plan.layers)


def _outside(plan: PlanFields) -> Iterable[tuple[int, Fields]]:
    first, end = plan.entry or 0, plan.n_layers if plan.exit is None else plan.exit
    return ((i, {"tokens": "text"}) for i in range(plan.n_layers) if not first <= i < end)


def _kept(plan: PlanFields) -> Iterable[tuple[int, Fields]]:
    yield from _outside(plan)
    last = plan.n_layers if plan.exit is None else plan.exit
    ends = [*(depth for depth, _ in plan.pruning[1:]), last]
    for stage, ((depth, _), end) in enumerate(zip(plan.pruning, ends, strict=True)):
        yield from ((i, {"tokens": "kept", "stage": stage}) for i in range(depth, end))


_RECORDS = (
    Mode(
        "block",
        takes=("layers",),
        title="one blocked layer",
        changes=_in_layers(bypass=True),
        words=_layer_words("skip"),
        every_token=True,
        removes="block",
    ),
    Mode(
        "freeze",
        takes=("layers",),
        title="one frozen layer",
        changes=_in_layers(modality_attention=False, modality_mlp=False),
        words=_layer_words("freeze {} tokens in"),
        removes="freeze",
    ),
    Mode(
        "vision_attention",
        takes=("layers",),
        title="one layer without attention of modality tokens",
        changes=_in_layers(modality_attention=False),
        words=_layer_words("skip attention of {} tokens in"),
        removes="vision_attention",
    ),
    Mode(
        "vision_mlp",
        takes=("layers",),
        title="one layer without MLP of modality tokens",
        changes=_in_layers(modality_mlp=False),
        words=_layer_words("skip MLP of {} tokens in"),
        removes="vision_mlp",
    ),
    Mode(
        "early_exit",
        takes=("exit",),
        title="early exit",
        changes=_outside,
        words=_place_words(lambda plan: f"leave after layer {int(plan.exit or 0) - 1}"),
        by="depth",
        axis="exit depth",
        at=lambda depth, _: [{"exit": depth}],
        empty=lambda n: {"exit": n},
        deeper_skips_less=True,
        removes="unseen",
    ),
    Mode(
        "late_entry",
        takes=("entry",),
        title="late entry",
        changes=_outside,
        words=_place_words(lambda plan: f"enter at layer {plan.entry}"),
        by="depth",
        axis="entry depth",
        at=lambda depth, _: [{"entry": depth}],
        empty=lambda _: {"entry": 0},
        deeper_skips_less=False,
        removes="unseen",
    ),
    Mode(
        "band",
        takes=("entry", "exit"),
        title="band",
        changes=_outside,
        words=_place_words(
            lambda plan: f"exist in layers {plan.entry} to {int(plan.exit or 0) - 1} only"
        ),
        by="band",
        axis="layers between entry and exit",
        at=lambda layer, _: [{"entry": layer, "exit": layer + 1}],
        empty=lambda n: {"entry": 0, "exit": n},
    ),
    Mode(
        "sublayer",
        takes=("attention", "mlp"),
        title="one sublayer",
        changes=lambda plan: [
            (i, {name: False}) for name in ("attention", "mlp") for i in getattr(plan, name)
        ],
        words=_sublayer_words,
        axis="layer (0-based); MLP half a step behind attention",
        at=lambda layer, _: [{"attention": (layer,)}, {"mlp": (layer,)}],
        every_token=True,
        removes="sublayer",
    ),
    Mode(
        "token_pruning",
        takes=("after", "keep"),
        may_take=("select",),
        title="token pruning",
        changes=_kept,
        words=_pruning_words,
        by="depth",
        axis="pruned after so many layers",
        at=lambda depth, keep: [{"after": depth, "keep": keep}],
        empty=lambda n: {"after": n, "keep": KEEP},
        deeper_skips_less=True,
    ),
    Mode(
        "progressive_pruning",
        takes=("stages",),
        may_take=("select", "entry", "exit"),
        title="progressive pruning",
        changes=_kept,
        words=_pruning_words,
        by="stages",
        axis="pruned after so many layers",
        at=lambda depth, keep: [{"stages": ((depth, keep),)}],
        empty=lambda n: {"stages": ((n, KEEP),)},
    ),
)

#: Every mode by name.
MODES: dict[str, Mode] = {mode.name: mode for mode in _RECORDS}
#: Modes that decide where modality tokens exist; a composed plan has at most one of them.
TOKEN_MODES = tuple(name for name, mode in MODES.items() if mode.by != "layer")
#: Modes that keep a share of the modality tokens, chosen by a selector.
PRUNING_MODES = tuple(name for name, mode in MODES.items() if "select" in mode.may_take)
#: Modes whose units are single layers or sublayers, any of which can be joined.
LAYERWISE = tuple(name for name, mode in MODES.items() if mode.by == "layer")
#: Modes that a rule can score: those of single layers and of depths. A band has two depths,
#: and progressive pruning has several.
RULE_MODES = (*LAYERWISE, *(name for name, mode in MODES.items() if mode.by == "depth"))
#: Rule modes that name whole layers, with no other field.
WHOLE_LAYER_MODES = tuple(name for name in LAYERWISE if MODES[name].takes == ("layers",))
#: Parts of a layer's update that a skip can remove: all, or that of modality tokens (`freeze`);
#: text's attention to them (`unseen`); its attention or its MLP, of all tokens or of theirs.
REMOVALS = ("block", "freeze", "unseen", "attention", "mlp", "vision_attention", "vision_mlp")
#: Those that a full pass gives; the others take one more run of every layer.
FREE_REMOVALS = ("block", "freeze")
#: Rule modes whose removed updates one full pass measures; `freeze` comes first.
KNOWN_REMOVAL_MODES = tuple(
    sorted((n for n in RULE_MODES if MODES[n].removes), key=lambda n: MODES[n].removes != "freeze")
)
#: Modes of a stack that is not the decoder: those that are not about modality tokens.
ENCODER_MODES = tuple(name for name, mode in MODES.items() if mode.every_token)
#: Rule modes whose slopes are measured together, by the name of that measurement.
SLOPE_GROUPS = {
    "slopes of the margin": ("freeze", "block", "early_exit", "late_entry"),
    "slopes of the margin by sublayer": ("vision_attention", "vision_mlp", "sublayer"),
}


def removed_by(unit: PlanFields) -> str:
    """The part of a touched layer's update that a single unit removes; empty if not known.

    >>> removed_by(PlanFields("sublayer", 4, mlp=(2,))), removed_by(PlanFields("early_exit", 4))
    ('mlp', 'unseen')
    """
    removes = MODES[unit.mode].removes or ""
    if removes == "sublayer":
        return "attention" if unit.attention else "mlp"
    return removes
