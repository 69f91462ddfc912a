"""`SkipPlan`: which layers are skipped, how, and from where that choice came. Plain data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from vlm_bridge.errors import BridgeError

MODES = ("block", "freeze", "early_exit", "late_entry", "band")
_NEEDS = {
    "block": ("layers",),
    "freeze": ("layers",),
    "early_exit": ("exit",),
    "late_entry": ("entry",),
    "band": ("entry", "exit"),
}


@dataclass(frozen=True)
class SkipPlan:
    """What to leave out of a decoder of `n_layers` layers. Layers are 0-based.

    Attributes:
        mode: one of `MODES`.
            `block`: the layers in `layers` are left out for all tokens.
            `freeze`: vision tokens are not updated in `layers`; text still attends to
            their keys and values (ShortV).
            `early_exit`: vision tokens are absent from layers >= `exit` (VTW).
            `late_entry`: vision tokens are absent from layers < `entry`, where they are
            inserted with their embedding (DeepInsert).
            `band`: both; vision tokens exist in layers `entry` to `exit - 1` only.
        n_layers: depth of the decoder the plan was made for.
        layers: for `block` and `freeze`, ascending and without repeats.
        entry: for `late_entry` and `band`.
        exit: for `early_exit` and `band`.
        source: where the plan came from (rule, data hash, threshold); free-form, for the
            record, not part of equality of behaviour.

    Raises:
        BridgeError: a layer out of range, entry not before exit, a field the mode needs is
            missing or one it does not know is given.

    Example:
        >>> SkipPlan("early_exit", n_layers=30, exit=20).text_only_layers
        (20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
        >>> SkipPlan("band", n_layers=30, entry=9, exit=4)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: band: entry 9 is not before exit 4
    """

    SCHEMA_VERSION = 1

    mode: str
    n_layers: int
    layers: tuple[int, ...] = ()
    entry: int | None = None
    exit: int | None = None
    source: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        if self.mode not in MODES:
            raise BridgeError(f"unknown mode '{self.mode}'; choose from {', '.join(MODES)}")
        if self.n_layers < 1:
            raise BridgeError(f"a plan needs at least one layer, got n_layers={self.n_layers}")
        for name in ("layers", "entry", "exit"):
            given = getattr(self, name) not in ((), None)
            if name in _NEEDS[self.mode] and not given and name != "layers":
                raise BridgeError(f"{self.mode} needs '{name}'")
            if given and name not in _NEEDS[self.mode]:
                raise BridgeError(f"{self.mode} takes no '{name}'")
        if list(self.layers) != sorted(set(self.layers)):
            raise BridgeError(f"layers must be ascending without repeats, got {self.layers}")
        for layer in self.layers:
            if not 0 <= layer < self.n_layers:
                raise BridgeError(
                    f"layer {layer} is out of range; the model has layers 0 to {self.n_layers - 1}"
                )
        for name in ("entry", "exit"):
            depth = getattr(self, name)
            if depth is not None and not 0 <= depth <= self.n_layers:
                raise BridgeError(f"{name} {depth} is out of range 0 to {self.n_layers}")
        if self.mode == "band" and not int(self.entry or 0) < int(self.exit or 0):
            raise BridgeError(f"band: entry {self.entry} is not before exit {self.exit}")

    @property
    def text_only_layers(self) -> tuple[int, ...]:
        """Layers that run without vision tokens: what exit, entry and band come down to."""
        if self.mode in ("block", "freeze"):
            return ()
        first = self.entry or 0
        last = self.n_layers if self.exit is None else self.exit
        return tuple(i for i in range(self.n_layers) if i < first or i >= last)

    @property
    def is_empty(self) -> bool:
        """True where the plan leaves the model as it is."""
        return not self.layers and not self.text_only_layers

    def describe(self) -> str:
        """One line for people.

        >>> SkipPlan("freeze", n_layers=30, layers=(7, 18, 19, 20)).describe()
        'freeze vision tokens in layers 7, 18-20 (4 of 30)'
        """
        if self.is_empty:
            return f"skip nothing ({self.mode}, 0 of {self.n_layers})"
        if self.mode in ("block", "freeze"):
            verb = "skip" if self.mode == "block" else "freeze vision tokens in"
            count = f"({len(self.layers)} of {self.n_layers})"
            return f"{verb} layers {_ranges(self.layers)} {count}"
        if len(self.text_only_layers) == self.n_layers:
            return f"vision tokens absent from every layer ({self.mode}, {self.n_layers} layers)"
        where = {
            "early_exit": f"leave after layer {int(self.exit or 0) - 1}",
            "late_entry": f"enter at layer {self.entry}",
            "band": f"exist in layers {self.entry} to {int(self.exit or 0) - 1} only",
        }[self.mode]
        return f"vision tokens {where} ({self.mode}, {self.n_layers} layers)"

    def hash(self) -> str:
        """SHA-256 of what the plan does (not of where it came from)."""
        body = {k: v for k, v in self.to_json().items() if k != "source"}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready data, with its schema version."""
        body = asdict(self)
        body["layers"] = list(self.layers)
        return {"type": "SkipPlan", "schema_version": self.SCHEMA_VERSION, **body}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The plan back from `to_json`.

        Raises:
            BridgeError: not a plan, another schema version, or an unknown field.
        """
        if not isinstance(data, dict) or data.get("type") != "SkipPlan":
            raise BridgeError("this JSON is not a SkipPlan (its 'type' says otherwise)")
        if data.get("schema_version") != cls.SCHEMA_VERSION:
            raise BridgeError(
                f"SkipPlan schema version {data.get('schema_version')} is not "
                f"{cls.SCHEMA_VERSION}; make the plan again with this version"
            )
        body = {k: v for k, v in data.items() if k not in ("type", "schema_version")}
        unknown = set(body) - set(cls.__dataclass_fields__)
        if unknown:
            raise BridgeError(f"SkipPlan has no field {', '.join(sorted(unknown))}")
        try:
            return cls(**body)
        except TypeError as error:
            raise BridgeError(f"this JSON is not a SkipPlan: {error}") from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The plan in a file that `skipit plan` wrote."""
        path = Path(path)
        if not path.is_file():
            raise BridgeError(f"no plan file at {path}")
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except json.JSONDecodeError as error:
            raise BridgeError(f"{path} is not JSON ({error.msg})") from None

    def fit(self, n_layers: int) -> None:
        """Check that the plan was made for a decoder of this depth.

        Raises:
            BridgeError: it was not.
        """
        if n_layers != self.n_layers:
            raise BridgeError(
                f"the plan was made for {self.n_layers} layers, the model has {n_layers}"
            )


def _ranges(layers: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
