"""Rules that predict what can be skipped, behind one protocol."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.rules.evidence import Evidence as Evidence
from vlm_bridge.rules.protocol import Rule as Rule
from vlm_bridge.rules.protocol import nested_plans as nested_plans
from vlm_bridge.rules.protocol import score_units as score_units
from vlm_bridge.rules.units import empty_plan as empty_plan
from vlm_bridge.rules.units import units as units
from vlm_bridge.rules.shortgpt import ShortGPT as ShortGPT
from vlm_bridge.rules.skip_it import SkipIt as SkipIt

#: Every rule `--rule` knows.
RULES: dict[str, Rule] = {rule.name: rule for rule in (SkipIt(), ShortGPT())}


def find_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        BridgeError: there is none.

    Example:
        >>> find_rule("shortgpt").modes
        ('block',)
    """
    if name not in RULES:
        raise BridgeError(f"unknown rule '{name}'; choose from {', '.join(RULES)}")
    return RULES[name]
