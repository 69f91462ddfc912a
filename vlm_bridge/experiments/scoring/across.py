"""Leave one model out: the rule that is best on the other models, evaluated on this model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from estimators.record import Record
from vlm_bridge.errors import BridgeError


@dataclass(frozen=True)
class LeftOut(Record):
    """A model that is left out, and the rule that is best on the other models.

    Attributes:
        model: the model that is left out.
        chosen, there: rule with the best mean figure of merit over the other models; that mean.
        here: figure of `chosen` on the model that is left out; NaN if undefined.
        best, best_here: best rule on the model that is left out; its figure.
    """

    model: str
    chosen: str
    there: float
    here: float
    best: str
    best_here: float


def leave_one_model_out(figures: Mapping[str, Mapping[str, float]]) -> list[LeftOut]:
    """For every model, choose the best rule on the others and evaluate it here.

    Only rules with a defined figure on every other model can be chosen. Models are not pooled:
    each has the same weight, whatever its number of units.

    Args:
        figures: model -> rule -> figure of merit such as AUC, higher is better; NaN if undefined.

    Raises:
        BridgeError: fewer than two models, or no rule defined on all other models.

    Example:
        >>> choices = leave_one_model_out({"m": {"a": 0.9, "b": 0.6}, "n": {"a": 0.5, "b": 0.8}})
        >>> [(choice.model, choice.chosen, choice.here) for choice in choices]
        [('m', 'b', 0.6), ('n', 'a', 0.5)]
    """
    if len(figures) < 2:
        raise BridgeError(f"leaving one model out needs at least two, got {len(figures)}")
    choices = []
    for model, here in figures.items():
        others = [rules for name, rules in figures.items() if name != model]
        means = {
            rule: sum(rules[rule] for rules in others) / len(others)
            for rule in others[0]
            if not any(math.isnan(rules.get(rule, math.nan)) for rules in others)
        }
        if not means:
            raise BridgeError(f"no rule has a figure on every model but {model}")
        chosen = max(means, key=means.__getitem__)
        defined = {rule: value for rule, value in here.items() if not math.isnan(value)}
        best = max(defined, key=defined.__getitem__, default="")
        value, best_value = here.get(chosen, math.nan), defined.get(best, math.nan)
        choices.append(LeftOut(model, chosen, means[chosen], value, best, best_value))
    return choices
