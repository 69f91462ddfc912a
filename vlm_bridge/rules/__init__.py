"""Rules that predict harmless skips; importing them loads no torch."""

from __future__ import annotations

from vlm_bridge.errors import BridgeError, among
from vlm_bridge.rules.budget import within_forward_cost as within_forward_cost
from vlm_bridge.rules.controls import DeepestFirst, Random, Unified
from vlm_bridge.rules.evidence import Evidence as Evidence
from vlm_bridge.rules.protocol import Origin as Origin
from vlm_bridge.rules.protocol import Rule as Rule
from vlm_bridge.rules.protocol import check_mode as check_mode
from vlm_bridge.rules.protocol import check_stack as check_stack
from vlm_bridge.rules.protocol import nested_plans as nested_plans
from vlm_bridge.rules.protocol import own_plans as own_plans
from vlm_bridge.rules.protocol import score_units as score_units
from vlm_bridge.rules.published.adaskip import AdaSkip
from vlm_bridge.rules.published.angular import Angular
from vlm_bridge.rules.published.arank import ARank
from vlm_bridge.rules.published.attend_transform import AttendTransform
from vlm_bridge.rules.published.deepinsert import DeepInsert
from vlm_bridge.rules.published.delask import DeLask
from vlm_bridge.rules.published.fastv import FastV
from vlm_bridge.rules.published.gm_skip import GMSkip
from vlm_bridge.rules.published.information_horizon import InformationHorizon
from vlm_bridge.rules.published.interchange import Interchange
from vlm_bridge.rules.published.lvlm_pid import LVLMPID
from vlm_bridge.rules.published.relative_error import RelativeError
from vlm_bridge.rules.published.shannon import ShannonInvariants
from vlm_bridge.rules.published.shortgpt import ShortGPT
from vlm_bridge.rules.published.shortv import ShortV
from vlm_bridge.rules.published.similarity import CKA, SVCCA
from vlm_bridge.rules.published.skip_vision import SkipVision
from vlm_bridge.rules.published.var import VAR
from vlm_bridge.rules.published.vision_swap import VisionSwap
from vlm_bridge.rules.published.vtw import VTW
from vlm_bridge.rules.skip_it import SkipIt
from vlm_bridge.rules.skip_it_slopes import SkipItRuns, SkipItSlopes

_ALL: tuple[Rule, ...] = (
    *(SkipIt(), SkipItSlopes(), ShortGPT(), Angular(), AdaSkip(), ARank(), DeLask()),
    *(RelativeError(), CKA(), SVCCA()),
    *(SkipVision(), AttendTransform(), VAR(), ShannonInvariants(), LVLMPID()),
    *(SkipItRuns(), Interchange(), ShortV(), VTW(), InformationHorizon(), DeepInsert(), FastV()),
    *(VisionSwap(), GMSkip()),
    *(Unified(), Random(), DeepestFirst()),
)
#: Every rule that `--rule` takes: on one forward pass, on candidate runs, and controls.
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
        raise BridgeError(f"unknown rule '{name}'; {among(name, RULES)}")
    return RULES[name]
