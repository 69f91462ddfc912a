"""`AdaptivePlan`: plans from cheap to dear; an answer that is not sure enough goes to the next."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from estimators.record import Record
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_json, read_record

#: Signals of one plan's logits: larger is surer.
OWN_SIGNALS = ("margin", "entropy", "confidence")
#: What says how sure an answer is.
SIGNALS = (*OWN_SIGNALS, "agreement")
#: What a gate judges: the whole answer, by the least sure of its tokens or by the first alone; or
#: each token by itself.
OVER = ("answer", "first", "token")
#: Most gates of an adaptive plan.
MAX_GATES = 8


def check_over(over: object) -> None:
    """Raise a `BridgeError` unless `over` says what a gate judges."""
    if over not in OVER:
        raise BridgeError(f"over of a gate must be one of {', '.join(OVER)}, got {shown(over)}")


@dataclass(frozen=True)
class Gate(Record):
    """A plan, and how sure its answers must be to stand.

    An answer stands if its signal is above the threshold: at -inf every answer stands, at inf none.

    Attributes:
        plan: what is skipped.
        signal: `margin`, log-probability of the likeliest token minus that of the second (nats);
            `entropy`, that of the next token with a minus sign (nats); `confidence`, probability
            of the likeliest token minus that of the second; `agreement`, 1 where the plan `second`
            gives the same answer (with `over` "first": the same first token), else 0.
        threshold: in the unit of the signal.
        over: "answer", the least signal of its tokens, or "first", that of the first token: the
            answer stands or falls as a whole. "token": each token stands or falls by its own
            signal, and the full model gives those that fall; see `generate_by_token`.
        second: the second plan, for `agreement` only.

    Raises:
        BridgeError: an unknown signal or `over`, a threshold that is no number, a plan that skips
            nothing, a second plan that is missing, the same or without use, agreement over tokens.

    Example:
        >>> gate = Gate(SkipPlan("block", 8, layers=(6,)), "margin", 0.5)
        >>> gate.passes([0.4, 0.5, 0.6])
        [False, False, True]
    """

    plan: SkipPlan
    signal: str = "margin"
    threshold: float = 0.0
    over: str = "answer"
    second: SkipPlan | None = None

    def __post_init__(self) -> None:
        for name in ("plan", "second"):
            of_gate: Any = getattr(self, name)
            if not isinstance(of_gate, SkipPlan) and (name == "plan" or of_gate is not None):
                how = "; vb.read_plan(WORDS)(vlm.layout.depth) makes one of words"
                raise BridgeError(
                    f"{name} of a gate must be a SkipPlan, got {shown(of_gate)}"
                    + how * isinstance(of_gate, str)
                )
            if of_gate is not None and of_gate.is_empty:
                raise BridgeError(f"{name} of a gate skips nothing; the full model is last anyway")
        if self.signal not in SIGNALS:
            raise BridgeError(
                f"signal of a gate must be one of {', '.join(SIGNALS)}, got {shown(self.signal)}"
            )
        check_over(self.over)
        limit: Any = self.threshold
        if isinstance(limit, bool) or not isinstance(limit, int | float) or math.isnan(limit):
            raise BridgeError(
                f"threshold of a gate must be a number, -inf or inf, got {shown(limit)}"
            )
        object.__setattr__(self, "threshold", float(limit))
        if (self.signal == "agreement") != (self.second is not None):
            raise BridgeError(
                "the signal agreement needs a second plan, and no other signal takes one; got "
                f"{shown(self.signal)} with second={shown(self.second)}"
            )
        if self.signal == "agreement" and self.over == "token":
            raise BridgeError(
                "agreement is of answers, and over='token' judges tokens; give another signal of "
                f"{', '.join(OWN_SIGNALS)}"
            )
        if self.second == self.plan:
            raise BridgeError("second is the plan itself, which always agrees; give another plan")

    @property
    def plans(self) -> tuple[SkipPlan, ...]:
        """The plan, and the second one if there is one."""
        return (self.plan,) if self.second is None else (self.plan, self.second)

    def passes(self, signals: Sequence[float]) -> list[bool]:
        """Whether answers of these signals stand; a signal of NaN is a `BridgeError`."""
        if any(map(math.isnan, signals)):
            raise BridgeError(f"a {self.signal} is NaN, so that it is not known how sure it is")
        return [signal > self.threshold for signal in signals]

    def describe(self, modality: str = "vision") -> str:
        """The gate in words.

        >>> Gate(SkipPlan("block", 8, layers=(6, 7)), "margin", 0.25).describe()
        'skip layers 6-7 (2 of 8) where the least margin of the answer is above 0.25'
        """
        if self.threshold == -math.inf:
            return f"{self.plan.describe(modality)} always"
        if self.over == "token":
            return f"{self.plan.describe(modality)} at each token whose {self._limit()}"
        least = "the least" if self.over == "answer" else "the first"
        signal = f"{least} {self._limit('of the answer')}"
        if self.second is not None:
            what = "answer" if self.over == "answer" else "first token"
            signal = f"the {what} agrees with that under: {self.second.describe(modality)}"
        return f"{self.plan.describe(modality)} where {signal}"

    def _limit(self, whose: str = "") -> str:
        # Confidences that matter are often near 1.
        digits = 6 if self.signal == "confidence" else 3
        return " ".join(filter(None, [self.signal, whose, f"is above {self.threshold:.{digits}g}"]))


@dataclass(frozen=True)
class AdaptivePlan(Record):
    """Gates from cheap to dear; the full model answers what stands at none of them.

    Attributes:
        gates: one or more, in the order in which they are tried.
        provenance: model and images that chose, tuned or certified it, with those of its plans.
            Not compared, and not hashed.

    Raises:
        BridgeError: no gates or too many, plans of different depths or models.

    Example:
        >>> plan = AdaptivePlan((Gate(SkipPlan("block", 8, layers=(6,)), "margin", 0.5),))
        >>> AdaptivePlan.from_json(plan.to_json()) == plan
        True
    """

    SCHEMA_VERSION: ClassVar[int] = 1

    gates: tuple[Gate, ...]
    provenance: Provenance = field(default_factory=Provenance, compare=False)

    def __post_init__(self) -> None:
        gates: Any = self.gates
        if not isinstance(gates, tuple | list) or not all(isinstance(g, Gate) for g in gates):
            raise BridgeError(f"gates of an adaptive plan must be Gates, got {shown(gates)}")
        if not 1 <= len(gates) <= MAX_GATES:
            raise BridgeError(f"an adaptive plan has 1 to {MAX_GATES} gates, got {len(gates)}")
        object.__setattr__(self, "gates", tuple(gates))
        if self.by_token and len(gates) > 1:
            raise BridgeError(
                f"a gate over tokens is the only one of its plan, got {len(gates)} gates; an "
                "answer that it gives is the plan's and the full model's together"
            )
        depths: dict[str, int] = {}
        for plan in self.plans:
            for stack, of_stack in plan.by_stack.items():
                if depths.setdefault(stack, of_stack.n_layers) != of_stack.n_layers:
                    raise BridgeError(
                        f"the plans of an adaptive plan are for {depths[stack]} and "
                        f"{of_stack.n_layers} layers of the {stack}; they must be of one model"
                    )
        whole = self.provenance.including(plan.provenance for plan in self.plans)
        object.__setattr__(self, "provenance", whole)

    @property
    def plans(self) -> tuple[SkipPlan, ...]:
        """All plans of all gates."""
        return tuple(plan for gate in self.gates for plan in gate.plans)

    @property
    def by_token(self) -> bool:
        """Whether each token is judged by itself, in place of whole answers."""
        return any(gate.over == "token" for gate in self.gates)

    def bare(self) -> AdaptivePlan:
        """The same plan without its provenance, nor that of its plans."""

        def without(plan: SkipPlan) -> SkipPlan:
            return type(plan).from_json(plan.behaviour())

        return AdaptivePlan(
            tuple(
                replace(gate, plan=without(gate.plan), second=gate.second and without(gate.second))
                for gate in self.gates
            )
        )

    @property
    def is_empty(self) -> bool:
        """False: every gate skips something."""
        return False

    def describe(self, modality: str = "vision") -> str:
        """The plan in one line, up to a gate at which every answer stands.

        >>> AdaptivePlan((Gate(SkipPlan("block", 8, layers=(6,)), "margin", 0.5),)).describe()
        'skip layer 6 (1 of 8) where the least margin of the answer is above 0.5; else the full ...'
        """
        said = [gate.describe(modality) for gate in self.gates]
        limits = [gate.threshold for gate in self.gates]
        last = -math.inf in limits and limits.index(-math.inf) + 1
        return "; else ".join(said[:last] if last else [*said, "the full model"])

    def hash(self) -> str:
        """SHA-256 of all fields but `provenance`, of plans too."""
        gates = [
            [[plan.hash() for plan in gate.plans], gate.signal, str(gate.threshold), gate.over]
            for gate in self.gates
        ]
        return hashlib.sha256(json.dumps(["AdaptivePlan", gates]).encode()).hexdigest()

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read an adaptive plan from a file that `skipit search --adaptive` wrote.

        Raises:
            BridgeError: no such file, or it holds another record; of a plan for every answer, and
                of a whole search, the message says what takes it.
        """
        body = read_json(Path(path), "adaptive plan")
        kind = body.get("type") if isinstance(body, dict) else None
        if kind == "SkipPlan":
            raise BridgeError(
                f"{path} holds a plan for every answer, not an adaptive plan; `skipit compare "
                f"MODEL {path} --data DATA` and `skipit certify` take it, and `skipit search "
                "--adaptive` makes an adaptive plan"
            )
        if kind == "CertifiedAdaptive":
            raise BridgeError(f"{path} holds a whole search; give adaptive.json beside it")
        return read_record(Path(path), cls, "adaptive plan")


#: A plan for every answer, or one that decides answer by answer.
AnyPlan = SkipPlan | AdaptivePlan
