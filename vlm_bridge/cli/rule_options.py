"""Options that name a rule, and the table of its conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.units import units
from vlm_bridge.rules import RULES, Evidence, Rule, score_units

RuleName = Annotated[str, typer.Option(help=f"One of {', '.join(RULES)}; see `skipit rules`.")]
RuleMode = Annotated[
    str | None,
    typer.Option(help=f"One of the rule's modes ({', '.join(RULE_MODES)}; default: its first)."),
]


def explained(rule: Rule, evidence: Evidence, mode: str, epsilon: float) -> Iterator[str]:
    """A line for every unit: score and what each condition says; a star where it is not safe."""
    scores = score_units(rule, evidence, mode)
    reasons = rule.explain(evidence, mode, epsilon=epsilon, probes=True)
    statements = list(dict.fromkeys(one.bound.statement for one in reasons))
    yield "\t".join(["unit", "score", *statements])
    for number, plan in enumerate(units(mode, evidence.n_layers)):
        said = {one.bound.statement: one for one in reasons if one.unit == number}
        cells = [f"{said[s].bound.value:.3g}{'' if said[s].safe else '*'}" for s in statements]
        yield "\t".join([plan.describe(), f"{scores[number]:.3g}", *cells])
