"""Estimators on the hidden states of real vision-language models, and what follows from them.

Load, profile, plan, skip, compare, certify. Layers are 0-based, ratios are skipped/full,
and the image is the independent unit.
"""

from __future__ import annotations

from vlm_bridge.cost import Cost as Cost
from vlm_bridge.cost import measure_cost as measure_cost
from vlm_bridge.errors import BridgeError as BridgeError
from vlm_bridge.evaluate.answers import answer as answer
from vlm_bridge.evaluate.certify import certify as certify
from vlm_bridge.evaluate.certify import certify_both as certify_both
from vlm_bridge.evaluate.compare import Comparison as Comparison
from vlm_bridge.evaluate.compare import compare as compare
from vlm_bridge.evaluate.sweep import sweep as sweep
from vlm_bridge.evaluate.sweep import sweep_plans as sweep_plans
from vlm_bridge.model.vlm import VLM as VLM
from vlm_bridge.model.vlm import load as load
from vlm_bridge.model.vlm import outline as outline
from vlm_bridge.observe.collector import Collector as Collector
from vlm_bridge.observe.profile import profile as profile
from vlm_bridge.observe.profile import random_copy as random_copy
from vlm_bridge.observe.reservoir import Reservoir as Reservoir
from vlm_bridge.observe.reservoir import Samples as Samples
from vlm_bridge.plan.skip_plan import SkipPlan as SkipPlan
from vlm_bridge.selection import search as search
from vlm_bridge.selection.choose import choose_plan as choose_plan
from vlm_bridge.skip import skipping as skipping
from vlm_bridge.skip.describe import describe as describe
from vlm_bridge.skip.export import prune as prune
