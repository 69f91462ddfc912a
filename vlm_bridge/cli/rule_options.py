"""Options that name a rule."""

from __future__ import annotations

from typing import Annotated

import typer

from vlm_bridge.rules import RULES
from vlm_bridge.rules.units import RULE_MODES

RuleName = Annotated[str, typer.Option(help=f"One of {', '.join(RULES)}; see `skipit rules`.")]
RuleMode = Annotated[
    str | None,
    typer.Option(help=f"One of the rule's modes ({', '.join(RULE_MODES)}; default: its first)."),
]
