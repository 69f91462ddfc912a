"""Rules that predict what can be skipped, behind one interface; torch is imported when one runs."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.units import empty_plan as empty_plan
from vlm_bridge.plan.units import units as units
from vlm_bridge.rules.budget import within_forward_cost as within_forward_cost
from vlm_bridge.rules.controls import DeepestFirst as DeepestFirst
from vlm_bridge.rules.controls import Random as Random
from vlm_bridge.rules.controls import Unified as Unified
from vlm_bridge.rules.evidence import Evidence as Evidence
from vlm_bridge.rules.protocol import Origin as Origin
from vlm_bridge.rules.protocol import Reason as Reason
from vlm_bridge.rules.protocol import Rule as Rule
from vlm_bridge.rules.protocol import check_mode as check_mode
from vlm_bridge.rules.protocol import nested_plans as nested_plans
from vlm_bridge.rules.protocol import own_plans as own_plans
from vlm_bridge.rules.protocol import score_units as score_units
from vlm_bridge.rules.published.adaskip import AdaSkip as AdaSkip
from vlm_bridge.rules.published.angular import Angular as Angular
from vlm_bridge.rules.published.arank import ARank as ARank
from vlm_bridge.rules.published.deepinsert import DeepInsert as DeepInsert
from vlm_bridge.rules.published.delask import DeLask as DeLask
from vlm_bridge.rules.published.fastv import FastV as FastV
from vlm_bridge.rules.published.gm_skip import GMSkip as GMSkip
from vlm_bridge.rules.published.lvlm_pid import LVLMPID as LVLMPID
from vlm_bridge.rules.published.shannon import ShannonInvariants as ShannonInvariants
from vlm_bridge.rules.published.shortgpt import ShortGPT as ShortGPT
from vlm_bridge.rules.published.shortv import ShortV as ShortV
from vlm_bridge.rules.published.skip_vision import SkipVision as SkipVision
from vlm_bridge.rules.published.var import VAR as VAR
from vlm_bridge.rules.published.vtw import VTW as VTW
from vlm_bridge.rules.skip_it import SkipIt as SkipIt
from vlm_bridge.rules.skip_it_slopes import SkipItRuns as SkipItRuns
from vlm_bridge.rules.skip_it_slopes import SkipItSlopes as SkipItSlopes

_ALL: tuple[Rule, ...] = (
    *(SkipIt(), SkipItSlopes(), ShortGPT(), Angular(), AdaSkip(), ARank(), DeLask()),
    *(SkipVision(), VAR(), ShannonInvariants(), LVLMPID()),
    *(SkipItRuns(), ShortV(), VTW(), DeepInsert(), FastV(), GMSkip()),
    *(Unified(), Random(), DeepestFirst()),
)
#: Every rule that `--rule` takes: those on one forward pass, on candidate runs, the controls.
RULES: dict[str, Rule] = {rule.name: rule for rule in _ALL}


def find_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        BridgeError: no rule has that name.

    Example:
        >>> find_rule("shortgpt").modes
        ('block',)
    """
    if name not in RULES:
        raise BridgeError(f"unknown rule '{name}'; choose from {', '.join(RULES)}")
    return RULES[name]
