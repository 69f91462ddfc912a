"""Estimators on the hidden states of real vision-language models, and what follows from them.

Load, profile, plan, skip, compare, certify. Layers are 0-based, ratios are skipped/full,
and the image is the independent unit.

Names are imported when they are first used, so that `import vlm_bridge` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimators import __version__ as __version__
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
    from vlm_bridge.model.vlm import load_meta as load_meta
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

#: Where each name comes from.
_HOMES = {
    "__version__": "estimators",
    "Cost": "vlm_bridge.cost",
    "measure_cost": "vlm_bridge.cost",
    "BridgeError": "vlm_bridge.errors",
    "answer": "vlm_bridge.evaluate.answers",
    "certify": "vlm_bridge.evaluate.certify",
    "certify_both": "vlm_bridge.evaluate.certify",
    "Comparison": "vlm_bridge.evaluate.compare",
    "compare": "vlm_bridge.evaluate.compare",
    "sweep": "vlm_bridge.evaluate.sweep",
    "sweep_plans": "vlm_bridge.evaluate.sweep",
    "VLM": "vlm_bridge.model.vlm",
    "load": "vlm_bridge.model.vlm",
    "load_meta": "vlm_bridge.model.vlm",
    "Collector": "vlm_bridge.observe.collector",
    "profile": "vlm_bridge.observe.profile",
    "random_copy": "vlm_bridge.observe.profile",
    "Reservoir": "vlm_bridge.observe.reservoir",
    "Samples": "vlm_bridge.observe.reservoir",
    "SkipPlan": "vlm_bridge.plan.skip_plan",
    "search": "vlm_bridge.selection",
    "choose_plan": "vlm_bridge.selection.choose",
    "skipping": "vlm_bridge.skip",
    "describe": "vlm_bridge.skip.describe",
    "prune": "vlm_bridge.skip.export",
}

__all__ = [
    "VLM",
    "BridgeError",
    "Collector",
    "Comparison",
    "Cost",
    "Reservoir",
    "Samples",
    "SkipPlan",
    "__version__",
    "answer",
    "certify",
    "certify_both",
    "choose_plan",
    "compare",
    "describe",
    "load",
    "load_meta",
    "measure_cost",
    "profile",
    "prune",
    "random_copy",
    "search",
    "skipping",
    "sweep",
    "sweep_plans",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
