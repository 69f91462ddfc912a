"""What a rule is: a name, the modes it speaks about, and a score of every unit of a mode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import KEEP
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union, units
from vlm_bridge.rules.evidence import Evidence

#: Whose a rule is: ours, a part of the paper's framework, a published method, or a control, which
#: looks at nothing and which any rule has to beat.
Origin = Literal["ours", "framework", "published", "control"]


class Rule(Protocol):
    """Ranks what to skip, from what it says it reads. `RuleBase` has what few rules change."""

    @property
    def name(self) -> str:
        """What `--rule` takes."""
        ...

    @property
    def modes(self) -> tuple[str, ...]:
        """Some of `units.RULE_MODES`; the first is the default."""
        ...

    @property
    def source(self) -> str:
        """Where the rule comes from."""
        ...

    @property
    def condition(self) -> str:
        """The redundancy condition it amounts to."""
        ...

    @property
    def requires(self) -> str:
        """One of `evidence.REQUIREMENTS`."""
        ...

    @property
    def origin(self) -> Origin:
        """Whose it is."""
        ...

    @property
    def version(self) -> int:
        """Of its scores; a higher one measures scores that were kept again."""
        ...

    @property
    def keep(self) -> float:
        """The share of vision tokens that its `token_pruning` keeps."""
        ...

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_units,) the lower, the safer to skip that unit; the units are `units(mode, L)`."""
        ...

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
        """Its own plans from the smallest to the largest; None: unions of its best units."""
        ...

    def within(self, forward_cost: float) -> Rule:
        """The rule that does what it can for so many forward passes over all questions."""
        ...


@dataclass(frozen=True, kw_only=True)
class RuleBase:
    """What most rules share. A rule has to say its `origin` itself.

    Attributes:
        origin: whose it is.
        version: of its scores; raise it when they change.
        keep: the share of vision tokens that its `token_pruning` keeps.
    """

    origin: Origin
    version: int = 1
    keep: float = KEEP

    def plans(self, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
        """None: its plans are unions of its best units."""
        return None

    def within(self, forward_cost: float) -> Self:
        """Itself: its cost is the same for every question, so it sees fewer images."""
        return self


def check_mode(rule: Rule, mode: str | None) -> str:
    """`mode`, or the rule's default; refuses what the rule does not speak about.

    Raises:
        BridgeError: the rule has no such mode.
    """
    if mode is None:
        return rule.modes[0]
    if mode not in rule.modes:
        raise BridgeError(
            f"rule '{rule.name}' has no mode '{mode}'; it has {', '.join(rule.modes)}"
        )
    return mode


def units_of(rule: Rule, mode: str, n_layers: int) -> list[SkipPlan]:
    """`units` with the share of vision tokens that the rule keeps."""
    return units(mode, n_layers, keep=rule.keep)


def score_units(rule: Rule, evidence: Evidence, mode: str | None = None) -> NDArray[np.float64]:
    """The rule's scores, with the evidence open as far as the rule says it reads, and checked.

    Args:
        rule: the rule.
        evidence: what it may look at; what it touched is in `evidence.spent[rule.name]`.
        mode: one of the rule's modes (default: its first).

    Returns:
        (n_units,) scores, in the order of `units_of`.

    Raises:
        BridgeError: a mode the rule has not, evidence it does not say it reads, or scores
            that are not one finite number for every unit.
    """
    mode = check_mode(rule, mode)
    n = len(units_of(rule, mode, evidence.n_layers))
    with evidence.open_to(rule.name, rule.requires):
        found = np.asarray(rule.score(evidence, mode), dtype=np.float64)
    if found.shape != (n,) or not np.isfinite(found).all():
        raise BridgeError(
            f"rule '{rule.name}' must give {n} finite scores in mode {mode}, got {found}"
        )
    return found


def own_plans(rule: Rule, evidence: Evidence, mode: str) -> list[SkipPlan] | None:
    """`rule.plans`, with the evidence open as far as the rule says it reads.

    Raises:
        BridgeError: evidence that the rule does not say it reads.
    """
    with evidence.open_to(rule.name, rule.requires):
        return rule.plans(evidence, mode)


def nested_plans(rule: Rule, evidence: Evidence, mode: str | None = None) -> list[SkipPlan]:
    """The rule's plans from the smallest to the largest.

    Layers and sublayers join in order of score. Depths come in order of how much they skip:
    late exits, early entries and late prunings first. A rule that has plans of its own gives those.

    Args:
        rule: the rule.
        evidence: what it may look at.
        mode: one of the rule's modes (default: its first).

    Raises:
        BridgeError: as `score_units`.
    """
    mode = check_mode(rule, mode)
    singles = units_of(rule, mode, evidence.n_layers)
    found = own_plans(rule, evidence, mode)
    if found is None and mode in ("block", "freeze", "sublayer"):
        order = np.argsort(score_units(rule, evidence, mode), kind="stable").tolist()
        found = [union([singles[i] for i in order[:k]]) for k in range(1, len(order) + 1)]
    elif found is None:
        found = singles if mode == "late_entry" else singles[::-1]
    source = {"rule": rule.name, "model": evidence.model, **evidence.hashes}
    return [replace(plan, source=source) for plan in found]
