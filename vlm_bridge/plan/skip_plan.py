"""`SkipPlan`: which layers are skipped and how, and where the plan comes from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from estimators.record import SOURCES
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.checks import (
    MAX_PARTS,
    check_fields,
    check_parts,
    joined_fields,
    part_order,
    typed_fields,
)
from vlm_bridge.plan.layer_op import Operation, compiled
from vlm_bridge.plan.modes import DEPTHS, MODES, PlanFields
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.selectors import FASTV, read_selector
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.runtime.files import read_json


@dataclass(frozen=True)
class SkipPlan(PlanFields):
    """Which parts of a stack of `n_layers` layers are skipped. Layers are 0-based.

    Attributes:
        mode: one of `MODES`; for a composed plan the modes of its parts, as in `band+freeze`.
            `block`: the layers in `layers` are skipped for all tokens.
            `freeze`: modality tokens (image, video, audio) are not updated in `layers`;
            text still attends to their keys and values (ShortV).
            `early_exit`: modality tokens are absent from layers >= `exit` (VTW).
            `late_entry`: modality tokens are absent from layers < `entry`, where they are
            inserted with their embedding (DeepInsert), plus the features that a DeepStack
            decoder has added to them in the layers before.
            `band`: both; modality tokens exist in layers `entry` to `exit - 1` only.
            `sublayer`: the residual update of the attention is skipped in the layers
            `attention`, that of the MLP in the layers `mlp` (AdaSkip).
            `token_pruning`: layers >= `after` run on text and, per sequence, on the share
            `keep` of modality tokens that the selector `select` chooses; at least one token. By
            default those to which the last token of the pass attends most in layer `after - 1`,
            mean over heads (FastV, arXiv 2403.06764).
            `progressive_pruning`: the same at several depths (PyramidDrop, arXiv 2410.17247;
            HiDrop, 2602.23699). From the depth of each stage on stays its share of the modality
            tokens of the sequence, chosen by `select` among those that the stage before keeps. With
            `entry` they enter at that layer, with `exit` the last of them leave there (HiDrop).
            PyramidDrop's own code takes the attention of the layer that the stage begins with,
            before that layer runs, and rounds the number of tokens down; here it is the layer
            before, and the nearest number, as in `token_pruning`.
        n_layers: number of layers of the stack for which the plan was made; of a plan of several
            stacks, of all of them.
        layers: for `block` and `freeze`, ascending; in a composed plan their union.
        entry: for `late_entry` and `band`; for `progressive_pruning`, before its first stage.
        exit: for `early_exit` and `band`; for `progressive_pruning`, behind its last stage.
        attention, mlp: for `sublayer`, ascending.
        after: for `token_pruning`; at least 1 if the selector reads attention of the decoder.
        keep: for `token_pruning`, between 0 and 1.
        select: for `token_pruning` and `progressive_pruning`, one of `plan.selectors.SELECTORS`,
            `random` with a seed if you like (`random:7`).
        stages: for `progressive_pruning`, pairs (depth, share); depths rise, shares fall. The
            depths and shares are limited as `after` and `keep` are.
        stack: the stack that the layers are of: `decoder`, or an encoder, `vision`, `audio` or
            `encoder` (of text), which has the modes `block` and `sublayer` only; of a plan of
            several stacks the names of all, as in `audio+decoder`.
        parts: the plans that `compose` joined; empty for a single plan.
        provenance: its model, and the images that chose, tuned or certified it; that of a composed
            plan has those of its parts. Not compared, and not hashed.

    Raises:
        BridgeError: a field is of another type (layers and depths are whole numbers), a layer is
            out of range, entry is not before exit, stages are out of order, a field is missing or
            unknown to the mode, or parts contradict each other.

    Example:
        >>> SkipPlan("early_exit", n_layers=30, exit=20).text_only_layers
        (20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
        >>> SkipPlan("band", n_layers=30, entry=9, exit=4)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: band: entry 9 is not before exit 4
    """

    SCHEMA_VERSION = 3

    parts: tuple[SkipPlan, ...] = ()
    provenance: Provenance = field(default_factory=Provenance, compare=False)

    def __post_init__(self) -> None:
        for name, value in typed_fields(self).items():
            object.__setattr__(self, name, value)
        if not isinstance(self.provenance, Provenance):
            raise BridgeError(f"provenance must be a Provenance, got {shown(self.provenance)}")
        object.__setattr__(self, "parts", _single_plans(self.parts))
        if self.parts:
            check_parts(self, self.parts)
            whole = self.provenance.including(part.provenance for part in self.parts)
            object.__setattr__(self, "provenance", whole)
            for name, value in joined_fields(self, self.parts).items():
                object.__setattr__(self, name, value)
        else:
            check_fields(self)
        _ = self.operations  # raises if the parts contradict each other on a layer

    @classmethod
    def compose(cls, *plans: SkipPlan) -> SkipPlan:
        """Join plans of different modes or stacks into one plan with the effects of all.

        In a stack at most one of the modes that place modality tokens, and one each of the others.

        Raises:
            BridgeError: no plans; in a stack, different numbers of layers, a mode twice, two modes
                that decide where modality tokens exist, or plans that contradict each other.

        Example:
            >>> band = SkipPlan("band", n_layers=8, entry=2, exit=6)
            >>> plan = SkipPlan.compose(SkipPlan("freeze", 8, layers=(3, 4)), band)
            >>> plan.mode, plan.text_only_layers, plan.layers
            ('band+freeze', (0, 1, 6, 7), (3, 4))
            >>> SkipPlan.compose(band, SkipPlan("freeze", 8, layers=(7,)))
            Traceback (most recent call last):
            vlm_bridge.errors.BridgeError: layer 7: band takes the modality tokens out there, so
            freeze has none to skip
        """
        parts = [part for plan in plans for part in plan.parts or (plan,)]
        if not parts:
            raise BridgeError("compose needs at least one plan")
        whole = Provenance.union(*(plan.provenance for plan in plans))
        if len(parts) == 1:
            same = parts[0].provenance == whole
            return parts[0] if same else replace(parts[0], provenance=whole)
        parts = sorted(parts, key=part_order)
        mode = "+".join(part.mode for part in parts)
        depths = {part.stack: part.n_layers for part in parts}
        stack, n_layers = "+".join(depths), sum(depths.values())
        return cls(mode, n_layers, stack=stack, parts=tuple(parts), provenance=whole)

    @cached_property
    def by_stack(self) -> dict[str, SkipPlan]:
        """Stack -> the plan of its layers, in the order in which a model runs the stacks.

        >>> both = SkipPlan("block", 2, layers=(0,), stack="audio"), SkipPlan("block", 3)
        >>> SkipPlan.compose(*both).by_stack["audio"].layers
        (0,)
        """
        stacks = self.stack.split("+")
        if len(stacks) == 1:
            return {self.stack: self}
        of = {name: [part for part in self.parts if part.stack == name] for name in stacks}
        return {name: SkipPlan.compose(*parts) for name, parts in of.items()}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operation of every layer under the plan, stack by stack."""
        if "+" in self.stack:
            return tuple(op for plan in self.by_stack.values() for op in plan.operations)
        changes = [
            (part.mode, *change)
            for part in self.parts or (self,)
            for change in MODES[part.mode].changes(part)
        ]
        scored = {i: part.mode for part in self.parts or (self,) for i in part.scored_layers}
        return compiled(self.n_layers, changes, scored)

    @property
    def scored_layers(self) -> tuple[int, ...]:
        """The layers from whose attention the stages of pruning take their scores, if they do."""
        if self.select is None or read_selector(self.select)[0].reads != "attention":
            return ()
        return tuple(depth - 1 for depth, _ in self.pruning if depth < self.n_layers)

    @property
    def text_only_layers(self) -> tuple[int, ...]:
        """Layers that run without modality tokens, as exit, entry and band ask."""
        return tuple(i for i, layer in enumerate(self.operations) if layer.tokens == "text")

    @property
    def kept_only_layers(self) -> tuple[int, ...]:
        """Layers that run on text and the modality tokens that pruning keeps."""
        return tuple(i for i, layer in enumerate(self.operations) if layer.tokens == "kept")

    @property
    def touched_layers(self) -> tuple[int, ...]:
        """Layers whose operation differs from the full model's."""
        return tuple(i for i, layer in enumerate(self.operations) if layer != Operation())

    @property
    def first_layer(self) -> int:
        """The first layer that the plan touches or scores; `n_layers` if none."""
        first = min(self.touched_layers, default=self.n_layers)
        return min([first, *self.scored_layers]) if self.kept_only_layers else first

    @property
    def is_empty(self) -> bool:
        """True if the plan skips nothing."""
        return not self.touched_layers

    def describe(self, modality: str = "vision") -> str:
        """Describe the plan in one line.

        A plan does not know its model: `modality` is what the model's modality tokens hold, as
        `Layout.modality` says.

        >>> SkipPlan("freeze", n_layers=30, layers=(7, 18, 19, 20)).describe()
        'freeze vision tokens in layers 7, 18-20 (4 of 30)'
        >>> SkipPlan("token_pruning", n_layers=30, after=2, keep=0.25).describe()
        'keep 25% of vision tokens in layers >= 2 (token_pruning, 30 layers)'
        >>> SkipPlan("progressive_pruning", n_layers=30, stages=((8, 0.5), (16, 0.25))).describe()
        'keep 50% of vision tokens in layers >= 8, 25% in layers >= 16 (progressive_pruning, 30 ...'
        >>> SkipPlan("early_exit", n_layers=30, exit=4).describe("audio")
        'audio tokens leave after layer 3 (early_exit, 30 layers)'
        >>> SkipPlan("block", n_layers=4, layers=(1, 2), stack="audio").describe()
        'skip layers 1-2 (2 of 4) of the audio encoder'
        """
        if self.parts:
            return "; ".join(part.describe(modality) for part in self.parts)
        words = f"skip nothing ({self.mode}, 0 of {self.n_layers})"
        if not self.is_empty:
            words = MODES[self.mode].words(self, modality or "modality")
        return words if self.stack == DECODER else f"{words} of the {STACKS[self.stack]}"

    def hash(self) -> str:
        """SHA-256 of all fields but `provenance`."""
        return hashlib.sha256(json.dumps(self.behaviour(), sort_keys=True).encode()).hexdigest()

    def behaviour(self) -> dict[str, Any]:
        """`to_json` without `provenance`, also of the parts: what the plan does."""
        body = self.to_json()
        body.pop("provenance", None)
        if self.parts:
            body["parts"] = [part.behaviour() for part in self.parts]
        return body

    def to_json(self) -> dict[str, Any]:
        """JSON data with type and schema version; the fields its mode takes, or its parts.

        The decoder is not named as the stack, nor FastV as the selector, so that hashes of their
        plans are those of before.
        """
        data: dict[str, Any] = {"type": "SkipPlan", "schema_version": self.SCHEMA_VERSION}
        data |= {"mode": self.mode, "n_layers": self.n_layers}
        data |= {} if self.stack == DECODER else {"stack": self.stack}
        if self.parts:
            data["parts"] = [part.to_json() for part in self.parts]
        else:
            mode = MODES[self.mode]
            values = {name: getattr(self, name) for name in mode.takes}
            data |= {name: _listed(value) for name, value in values.items()}
            depths = {name: getattr(self, name) for name in DEPTHS if name in mode.may_take}
            data |= {name: depth for name, depth in depths.items() if depth is not None}
        if self.select not in (None, FASTV) and not self.parts:
            data["select"] = self.select
        origin = self.provenance.to_json()
        return data | ({"provenance": origin} if origin else {})

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a plan from the data of `to_json`.

        Raises:
            BridgeError: not a plan, another schema version, or an unknown field.
        """
        if isinstance(data, str | bytes | Path):
            raise BridgeError(
                f"SkipPlan.from_json takes a dict, got {shown(data)}; SkipPlan.read(path) reads a "
                "file"
            )
        if not isinstance(data, dict) or data.get("type") != "SkipPlan":
            raise BridgeError("this JSON is not a SkipPlan (its 'type' says otherwise)")
        version = data.get("schema_version")
        if type(version) is not int or version != cls.SCHEMA_VERSION:
            raise BridgeError(
                f"SkipPlan schema version {shown(version)} is not {cls.SCHEMA_VERSION}; "
                "make the plan again with this version"
            )
        body = {k: v for k, v in data.items() if k not in ("type", "schema_version", SOURCES)}
        known = {known.name: known for known in fields(cls)}
        if unknown := sorted(set(body) - set(known)):
            raise BridgeError(
                f"SkipPlan has no field {shown(unknown[0])}; it has {', '.join(known)}"
            )
        if absent := [name for name in ("mode", "n_layers") if name not in body]:
            raise BridgeError(f"this JSON is not a SkipPlan: it lacks '{absent[0]}'")
        parts, most = body.pop("parts", []), MAX_PARTS
        if not isinstance(parts, list) or len(parts) > most:
            raise BridgeError(f"parts must be a list of at most {most} plans, got {shown(parts)}")
        if any(isinstance(part, dict) and part.get("parts") for part in parts):
            raise BridgeError("a part must be a single plan, without parts of its own")
        if "provenance" in body:
            body["provenance"] = Provenance.from_json(body["provenance"])
        return cls(**body, parts=tuple(cls.from_json(part) for part in parts))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a plan from a file that `skipit plan` wrote; a refusal names the file."""
        body = read_json(Path(path), "plan file")
        if isinstance(body, dict) and body.get("type") == "AdaptivePlan":
            raise BridgeError(
                f"{path} holds an adaptive plan, not a plan for every answer; run it with "
                f"`skipit adaptive MODEL {path} --data DATA`, or read it with AdaptivePlan.read"
            )
        try:
            return cls.from_json(body)
        except ValueError as error:
            raise BridgeError(f"{path} does not hold a plan: {error}") from None

    def check_depth(self, n_layers: int) -> None:
        """Raise a `BridgeError` unless the plan was made for this number of layers."""
        if n_layers != self.n_layers:
            who = "the model" if self.stack == DECODER else f"the {STACKS[self.stack]}"
            raise BridgeError(f"the plan was made for {self.n_layers} layers, {who} has {n_layers}")


def _single_plans(parts: Any) -> tuple[SkipPlan, ...]:
    if not isinstance(parts, list | tuple) or not all(isinstance(p, SkipPlan) for p in parts):
        raise BridgeError(f"parts must be plans, got {shown(parts)}")
    return tuple(parts)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
