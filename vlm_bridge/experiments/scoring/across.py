"""Across models: would the rule that is best elsewhere have been the right one here?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.errors import BridgeError


@dataclass(frozen=True)
class LeftOut(Record):
    """A model, and the rule that all other models would have chosen for it.

    Attributes:
        model: the one left out.
        chosen: the rule with the best mean figure over the other models.
        there: that mean.
        here: its figure on the model left out; NaN where it is not defined.
        best: the rule that would have been best here.
        best_here: its figure.
    """

    model: str
    chosen: str
    there: float
    here: float
    best: str
    best_here: float


def leave_one_model_out(figures: Mapping[str, Mapping[str, float]]) -> list[LeftOut]:
    """For every model, choose a rule on the others and look at it here. Higher is better.

    Only rules with a defined figure on every other model can be chosen. Models are not pooled:
    each of the others has one vote, whatever its number of units.

    Args:
        figures: model -> rule -> figure (AUC), NaN where it is not defined.

    Raises:
        BridgeError: fewer than two models, or no rule defined on all the others.

    Example:
        >>> found = leave_one_model_out({"m": {"a": 0.9, "b": 0.6}, "n": {"a": 0.5, "b": 0.8}})
        >>> [(one.model, one.chosen, one.here) for one in found]
        [('m', 'b', 0.6), ('n', 'a', 0.5)]
    """
    if len(figures) < 2:
        raise BridgeError(f"leaving one model out needs at least two, got {len(figures)}")
    found = []
    for model, here in figures.items():
        others = [rules for name, rules in figures.items() if name != model]
        means = {
            rule: sum(rules[rule] for rules in others) / len(others)
            for rule in others[0]
            if all(not _undefined(rules.get(rule, math.nan)) for rules in others)
        }
        if not means:
            raise BridgeError(f"no rule has a figure on every model but {model}")
        chosen = max(means, key=means.__getitem__)
        defined = {rule: value for rule, value in here.items() if not _undefined(value)}
        best = max(defined, key=defined.__getitem__, default="")
        found.append(
            LeftOut(
                model=model,
                chosen=chosen,
                there=means[chosen],
                here=here.get(chosen, math.nan),
                best=best,
                best_here=defined.get(best, math.nan),
            )
        )
    return found


def _undefined(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
