"""Estimators on the hidden states of real vision-language models, and what follows from them.

Load, profile, plan, skip, compare, certify. Layers are 0-based, ratios are skipped/full,
and the image is the independent unit.
"""

from __future__ import annotations

from vlm_bridge.answers import answer as answer
from vlm_bridge.certification import certify as certify
from vlm_bridge.certification import certify_both as certify_both
from vlm_bridge.choose import choose_plan as choose_plan
from vlm_bridge.collecting import Collector as Collector
from vlm_bridge.comparison import Comparison as Comparison
from vlm_bridge.comparison import compare as compare
from vlm_bridge.cost import Cost as Cost
from vlm_bridge.cost import measure_cost as measure_cost
from vlm_bridge.describe import describe as describe
from vlm_bridge.errors import BridgeError as BridgeError
from vlm_bridge.plan import SkipPlan as SkipPlan
from vlm_bridge.profiling import profile as profile
from vlm_bridge.profiling import random_copy as random_copy
from vlm_bridge.prune import prune as prune
from vlm_bridge.reservoir import Reservoir as Reservoir
from vlm_bridge.reservoir import Samples as Samples
from vlm_bridge.search import search as search
from vlm_bridge.skip import skipping as skipping
from vlm_bridge.sweeping import sweep as sweep
from vlm_bridge.sweeping import sweep_plans as sweep_plans
from vlm_bridge.vlm import VLM as VLM
from vlm_bridge.vlm import load as load
from vlm_bridge.vlm import outline as outline
