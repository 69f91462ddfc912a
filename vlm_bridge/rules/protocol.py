"""`Rule`: the interface of rules, which score every unit of a mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.modes import KEEP, LAYERWISE, MODES, lacking
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS
from vlm_bridge.plan.units import union
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure import Floats as Floats

if TYPE_CHECKING:
    from theory.conditions import Bound

#: Rules that an error proposes for text-only models.
FOR_TEXTS = "--rule shortgpt or --rule adaskip"
#: Origin of a rule: ours, the paper's framework, a published method, or a control.
Origin = Literal["ours", "framework", "published", "control"]


@dataclass(frozen=True)
class Reason:
    """Value of one condition for one unit.

    Attributes:
        unit: position in `units(mode, L)`.
        bound: the condition's value, with its assumptions.
        limit: largest value for which the unit is safe.
    """

    unit: int
    bound: Bound
    limit: float

    @property
    def safe(self) -> bool:
        """True if the value is at most the limit."""
        return self.bound.value <= self.limit

    @property
    def margin(self) -> float:
        """Limit minus value; negative if the unit is not safe."""
        return self.limit - self.bound.value

    def __str__(self) -> str:
        word = "safe" if self.safe else "not safe"
        return f"unit {self.unit}: {word} by {self.margin:+.3g}: {self.bound}"


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Ranks what to skip, from the evidence it declares. Fields of a subclass are its settings.

    Attributes:
        name: its name on the command line.
        modes: some of `RULE_MODES`; the first is the default.
        source: the publication, with equation or section.
        deviation: its difference from the publication; "none" only if the scores are its own.
        condition: the redundancy condition that the score measures.
        requires: one of `REQUIREMENTS`.
        origin: ours, framework, published or control.
        stacks: whose layers it ranks; "any" includes encoders, in the modes that they have.
        explains: whether `explain` gives reasons.
        version: of the scores; a change of it remeasures cached scores.
        keep: share of modality tokens kept by its `token_pruning`.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    source: ClassVar[str]
    deviation: ClassVar[str]
    condition: ClassVar[str]
    requires: ClassVar[str] = "forward pass"
    origin: ClassVar[Origin] = "published"
    stacks: ClassVar[Literal["decoder", "any"]] = "decoder"
    explains: ClassVar[bool] = False
    version: int = 1
    keep: float = KEEP

    @abstractmethod
    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_units,) scores of `units(mode, L)`; lower is safer to skip."""

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
        """The rule's own plans, the smallest first; None: unions of its lowest-scored units."""
        return None

    def within(self, forward_cost: float) -> Self:
        """The rule adjusted to a budget of `forward_cost` passes; by default unchanged."""
        return self

    def explain(
        self, evidence: Evidence, mode: str, *, epsilon: float = 0.02, probes: bool = False
    ) -> list[Reason]:
        """The value of each condition for each unit; none by default."""
        return []


def check_mode(rule: Rule, mode: str | None, modality: str) -> str:
    """`mode`, or for None the rule's first mode that a model with such modality tokens has.

    Raises:
        BridgeError: the rule has no such mode or, for None, none for a text-only model.
    """
    if mode is not None and mode not in rule.modes:
        raise BridgeError(
            f"rule '{rule.name}' has no mode '{mode}'; it has {', '.join(rule.modes)}"
        )
    usable = [known for known in rule.modes if not lacking(known, modality)]
    if mode is None and not usable:
        raise BridgeError(
            f"rule '{rule.name}' skips image, video or audio tokens ({', '.join(rule.modes)}), and "
            "this model has none; name a rule that skips whole layers or sublayers, as "
            f"{FOR_TEXTS} do; `skipit rules` lists the modes of each"
        )
    return mode or usable[0]


def units_of(rule: Rule, mode: str, evidence: Evidence) -> list[SkipPlan]:
    """The units that a rule scores, with the share of modality tokens that it keeps."""
    return evidence.units(mode, keep=rule.keep)


def score_units(rule: Rule, evidence: Evidence, mode: str | None = None) -> Floats:
    """(n_units,) checked scores in the order of `units_of`, from the declared evidence only.

    The cost is added to `evidence.spent[rule.name]`. The default mode is the rule's first that the
    model has.

    Raises:
        BridgeError: another mode, one that skips tokens which the model has not, a stack that the
            rule does not rank, undeclared evidence, or not one finite score per unit.
    """
    mode = _checked(rule, mode, evidence)
    n = len(units_of(rule, mode, evidence))
    with evidence.open_to(rule.name, rule.requires):
        scores = np.asarray(rule.score(evidence, mode), dtype=np.float64)
    if scores.shape != (n,) or not np.isfinite(scores).all():
        raise BridgeError(
            f"rule '{rule.name}' must give {n} finite scores in mode {mode}, got {scores}"
        )
    return scores


def check_stack(rule: Rule, stack: str) -> None:
    """Raise a `BridgeError` unless the rule ranks layers of a stack."""
    if stack not in STACKS:
        raise BridgeError(f"unknown stack {shown(stack)}; choose from {', '.join(STACKS)}")
    if stack != DECODER and rule.stacks == DECODER:
        raise BridgeError(
            f"rule '{rule.name}' ranks layers of the decoder only; for the {STACKS[stack]} take a "
            f"rule of any stack, as {FOR_TEXTS}; `skipit rules` lists the stacks of each"
        )


def _checked(rule: Rule, mode: str | None, evidence: Evidence) -> str:
    """The mode of `check_mode`, if the rule ranks layers of this stack and the model has it."""
    check_stack(rule, evidence.stack)
    mode = check_mode(rule, mode, evidence.modality)
    evidence.check_mode(mode)
    return mode


def own_plans(rule: Rule, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
    """`rule.plans`, from the declared evidence only; other evidence is a `BridgeError`."""
    mode = _checked(rule, mode, evidence)
    with evidence.open_to(rule.name, rule.requires):
        return rule.plans(evidence, mode)


def nested_plans(rule: Rule, evidence: Evidence, mode: str | None = None) -> list[SkipPlan]:
    """The rule's plans, the smallest first; a rule's own plans take precedence.

    Layers and sublayers are added in order of score. Depths are ordered by how much they skip: late
    exits, early entries and late prunings first. The default mode and the errors are those of
    `score_units`. The plans name the model and the images of the evidence.
    """
    mode = _checked(rule, mode, evidence)
    singles = units_of(rule, mode, evidence)
    plans = own_plans(rule, evidence, mode)
    if plans is None and mode in LAYERWISE:
        order = np.argsort(score_units(rule, evidence, mode), kind="stable").tolist()
        plans = [union([singles[i] for i in order[:k]]) for k in range(1, len(order) + 1)]
    elif plans is None:
        plans = singles[::-1] if MODES[mode].deeper_skips_less else singles
    provenance = evidence.provenance(rule.name, rule.requires)
    return [
        replace(plan, provenance=Provenance.union(provenance, plan.provenance)) for plan in plans
    ]
