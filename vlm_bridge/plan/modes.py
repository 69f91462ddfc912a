"""The ways to skip: one record for each mode, which everything that lists modes reads.

A new mode is a record here, the field of `Operation` that its `changes` set, and the plain and the
fast form of that field in `vlm_bridge.skip`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

#: Share of vision tokens that units of `token_pruning` keep unless the rule says otherwise.
KEEP = 0.5


class PlanFields(Protocol):
    """The fields of a `SkipPlan` that a mode may read."""

    @property
    def n_layers(self) -> int:
        """Depth of the decoder."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of `block` and `freeze`."""
        ...

    @property
    def entry(self) -> int | None:
        """First layer with vision tokens."""
        ...

    @property
    def exit(self) -> int | None:
        """First layer without them."""
        ...

    @property
    def attention(self) -> tuple[int, ...]:
        """Layers without their attention."""
        ...

    @property
    def mlp(self) -> tuple[int, ...]:
        """Layers without their MLP."""
        ...

    @property
    def after(self) -> int | None:
        """First layer after token pruning."""
        ...

    @property
    def keep(self) -> float | None:
        """Share of vision tokens kept."""
        ...


Fields = dict[str, Any]


@dataclass(frozen=True)
class Mode:
    """One way to skip.

    Attributes:
        name: what plans and the command line call it.
        takes: fields of `SkipPlan` that it needs.
        by: `layer`, where units can be joined into plans of any layers; `depth`, where a unit is
            a depth and plans are nested; `band`, where vision tokens live between two depths.
        title: a unit of it, for figures.
        axis: what counts its units, for figures.
        at: the fields of its units at one layer or depth; the share kept is for token pruning.
        empty: fields of its plan that skips nothing in a decoder of so many layers.
        changes: (layer, changed fields of `Operation`) for each layer that a plan touches. The
            share of work saved follows from them (`plan.savings`), as do its plain and fast form.
        words: a plan that skips something, in one line.
        any_attention: it works with every type of attention.
        deeper_skips_less: of two depths the deeper one skips less; None for modes without depths.
        removes: what a touched layer no longer adds to the residual stream, where one full pass
            knows it: the whole update (`block`), the update of vision tokens (`freeze`), or what
            text reads from vision (`unseen`). None: it takes a run of the plan.
    """

    name: str
    takes: tuple[str, ...]
    by: Literal["layer", "depth", "band"]
    title: str
    axis: str
    at: Callable[[int, float], list[Fields]]
    empty: Callable[[int], Fields]
    changes: Callable[[PlanFields], Iterable[tuple[int, Fields]]]
    words: Callable[[PlanFields], str]
    any_attention: bool = False
    deeper_skips_less: bool | None = None
    removes: Literal["block", "freeze", "unseen"] | None = None

    @property
    def places_vision(self) -> bool:
        """It says in which layers vision tokens exist; a composed plan has at most one such."""
        return self.by != "layer"


def ranges(layers: Iterable[int]) -> str:
    """Ascending layers as ranges.

    >>> ranges([7, 18, 19, 20])
    '7, 18-20'
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _counted(verb: str) -> Callable[[PlanFields], str]:
    return lambda plan: (
        f"{verb} layers {ranges(plan.layers)} ({len(plan.layers)} of {plan.n_layers})"
    )


def _sublayer_words(plan: PlanFields) -> str:
    both = {"attention": plan.attention, "MLP": plan.mlp}
    said = [f"{name} of layers {ranges(layers)}" for name, layers in both.items() if layers]
    return f"skip {' and '.join(said)} (sublayer, {plan.n_layers} layers)"


def _pruning_words(plan: PlanFields) -> str:
    share = f"{float(plan.keep or 0) * 100:.4g}%"
    where = f"in layers >= {plan.after} (token_pruning, {plan.n_layers} layers)"
    return f"keep {share} of vision tokens {where}"


def _present(name: str, where: Callable[[PlanFields], str]) -> Callable[[PlanFields], str]:
    """Words for a mode that leaves vision tokens out of the layers outside [entry, exit)."""

    def words(plan: PlanFields) -> str:
        nowhere = len(list(_outside(plan))) == plan.n_layers
        said = "absent from every layer" if nowhere else where(plan)
        return f"vision tokens {said} ({name}, {plan.n_layers} layers)"

    return words


def _outside(plan: PlanFields) -> Iterable[tuple[int, Fields]]:
    first, last = plan.entry or 0, plan.n_layers if plan.exit is None else plan.exit
    return ((i, {"tokens": "text"}) for i in range(plan.n_layers) if not first <= i < last)


_RECORDS = (
    Mode(
        "block",
        takes=("layers",),
        by="layer",
        title="one blocked layer",
        axis="layer (0-based)",
        at=lambda layer, _: [{"layers": (layer,)}],
        empty=lambda _: {},
        changes=lambda plan: ((i, {"bypass": True}) for i in plan.layers),
        words=_counted("skip"),
        any_attention=True,
        removes="block",
    ),
    Mode(
        "freeze",
        takes=("layers",),
        by="layer",
        title="one frozen layer",
        axis="layer (0-based)",
        at=lambda layer, _: [{"layers": (layer,)}],
        empty=lambda _: {},
        changes=lambda plan: ((i, {"freeze": True}) for i in plan.layers),
        words=_counted("freeze vision tokens in"),
        removes="freeze",
    ),
    Mode(
        "early_exit",
        takes=("exit",),
        by="depth",
        title="early exit",
        axis="exit depth",
        at=lambda depth, _: [{"exit": depth}],
        empty=lambda n: {"exit": n},
        changes=_outside,
        words=_present("early_exit", lambda plan: f"leave after layer {int(plan.exit or 0) - 1}"),
        deeper_skips_less=True,
        removes="unseen",
    ),
    Mode(
        "late_entry",
        takes=("entry",),
        by="depth",
        title="late entry",
        axis="entry depth",
        at=lambda depth, _: [{"entry": depth}],
        empty=lambda _: {"entry": 0},
        changes=_outside,
        words=_present("late_entry", lambda plan: f"enter at layer {plan.entry}"),
        deeper_skips_less=False,
        removes="unseen",
    ),
    Mode(
        "band",
        takes=("entry", "exit"),
        by="band",
        title="band",
        axis="layers between entry and exit",
        at=lambda layer, _: [{"entry": layer, "exit": layer + 1}],
        empty=lambda n: {"entry": 0, "exit": n},
        changes=_outside,
        words=_present(
            "band",
            lambda plan: f"exist in layers {plan.entry} to {int(plan.exit or 0) - 1} only",
        ),
    ),
    Mode(
        "sublayer",
        takes=("attention", "mlp"),
        by="layer",
        title="one sublayer",
        axis="layer (0-based); MLP half a step behind attention",
        at=lambda layer, _: [{"attention": (layer,)}, {"mlp": (layer,)}],
        empty=lambda _: {},
        changes=lambda plan: [
            *((i, {"attention": False}) for i in plan.attention),
            *((i, {"mlp": False}) for i in plan.mlp),
        ],
        words=_sublayer_words,
        any_attention=True,
    ),
    Mode(
        "token_pruning",
        takes=("after", "keep"),
        by="depth",
        title="token pruning",
        axis="pruned after so many layers",
        at=lambda depth, keep: [{"after": depth, "keep": keep}],
        empty=lambda n: {"after": n, "keep": KEEP},
        changes=lambda plan: (
            (i, {"tokens": "kept"}) for i in range(plan.after or 0, plan.n_layers)
        ),
        words=_pruning_words,
        deeper_skips_less=True,
    ),
)

#: Every mode by name.
MODES: dict[str, Mode] = {mode.name: mode for mode in _RECORDS}
#: Modes that say where vision tokens exist; a composed plan has at most one of them.
TOKEN_MODES = tuple(name for name, mode in MODES.items() if mode.places_vision)
#: Modes whose units are single layers (or sublayers), so that any of them can be joined.
LAYERWISE = tuple(name for name, mode in MODES.items() if mode.by == "layer")
#: Modes a rule can score: those of single layers and of depths. A band is made of two depths.
RULE_MODES = (*LAYERWISE, *(name for name, mode in MODES.items() if mode.by == "depth"))
#: Rule modes that name whole layers, with no other field.
WHOLE_LAYER_MODES = tuple(name for name in LAYERWISE if MODES[name].takes == ("layers",))
#: Rule modes whose effect on the residual stream one full pass knows; those on vision alone first.
KNOWN_REMOVAL_MODES = tuple(
    sorted((n for n in RULE_MODES if MODES[n].removes), key=lambda n: MODES[n].removes != "freeze")
)
