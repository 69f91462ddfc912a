"""Profile a vision-language model, plan which layers to skip, skip them, compare, certify.

Layers are 0-based, ratios are skipped over full, and the image is the independent unit.
A name is imported when it is first used, so `import vlm_bridge` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimators.lazy import LazyNames
from vlm_bridge.errors import missing_extra

if TYPE_CHECKING:  # the one list of public names; `LazyNames` reads it
    from estimators import __version__ as __version__
    from estimators import to_pandas as to_pandas
    from vlm_bridge.cost import Cost as Cost
    from vlm_bridge.cost import measure_cost as measure_cost
    from vlm_bridge.data import Item as Item
    from vlm_bridge.data import items_from as items_from
    from vlm_bridge.errors import BridgeError as BridgeError
    from vlm_bridge.evaluate.adaptive import adaptive_answers as adaptive_answers
    from vlm_bridge.evaluate.adaptive_block import skipping as skipping
    from vlm_bridge.evaluate.adaptive_latency import stream_latency as stream_latency
    from vlm_bridge.evaluate.answered_items import AnsweredItem as AnsweredItem
    from vlm_bridge.evaluate.answered_items import answered_items as answered_items
    from vlm_bridge.evaluate.answered_items import read_answered as read_answered
    from vlm_bridge.evaluate.answered_items import write_answered as write_answered
    from vlm_bridge.evaluate.answers import answer as answer
    from vlm_bridge.evaluate.answers import normalise as normalise
    from vlm_bridge.evaluate.audit import audited as audited
    from vlm_bridge.evaluate.certify import certify as certify
    from vlm_bridge.evaluate.certify import certify_both as certify_both
    from vlm_bridge.evaluate.compare import Comparison as Comparison
    from vlm_bridge.evaluate.compare import compare as compare
    from vlm_bridge.evaluate.compare_answers import AnswerComparison as AnswerComparison
    from vlm_bridge.evaluate.compare_answers import compare_answers as compare_answers
    from vlm_bridge.evaluate.growing import certify_anytime as certify_anytime
    from vlm_bridge.evaluate.joint import certify_groups as certify_groups
    from vlm_bridge.evaluate.joint import certify_risks as certify_risks
    from vlm_bridge.evaluate.monitor import Monitor as Monitor
    from vlm_bridge.evaluate.paired import PairedAnswers as PairedAnswers
    from vlm_bridge.evaluate.paired import paired_answers as paired_answers
    from vlm_bridge.evaluate.reach import reach as reach
    from vlm_bridge.evaluate.scorers import find_scorer as find_scorer
    from vlm_bridge.evaluate.scorers import scorers as scorers
    from vlm_bridge.evaluate.sweep import sweep as sweep
    from vlm_bridge.evaluate.sweep import sweep_plans as sweep_plans
    from vlm_bridge.model.finite import BrokenModel as BrokenModel
    from vlm_bridge.model.vlm import VLM as VLM
    from vlm_bridge.model.vlm import load as load
    from vlm_bridge.model.vlm import load_meta as load_meta
    from vlm_bridge.model.wrap import wrap as wrap
    from vlm_bridge.observe.collector import Collector as Collector
    from vlm_bridge.observe.given_states import profile_states as profile_states
    from vlm_bridge.observe.given_states import token_masks as token_masks
    from vlm_bridge.observe.profile import profile as profile
    from vlm_bridge.observe.profile import random_copy as random_copy
    from vlm_bridge.observe.reservoir import Reservoir as Reservoir
    from vlm_bridge.observe.reservoir import Samples as Samples
    from vlm_bridge.plan.adaptive import AdaptivePlan as AdaptivePlan
    from vlm_bridge.plan.adaptive import Gate as Gate
    from vlm_bridge.plan.skip_plan import SkipPlan as SkipPlan
    from vlm_bridge.plan.text import read_plan as read_plan
    from vlm_bridge.runtime.ledger import Ledger as Ledger
    from vlm_bridge.selection import search as search
    from vlm_bridge.selection.adaptive import adaptive_search as adaptive_search
    from vlm_bridge.selection.by_token import search_by_token as search_by_token
    from vlm_bridge.selection.choose import choose_plan as choose_plan
    from vlm_bridge.server.app import server_app as server_app
    from vlm_bridge.server.run import serve as serve
    from vlm_bridge.server.run import serving as serving
    from vlm_bridge.server.settings import ServerSettings as ServerSettings
    from vlm_bridge.skip.by_token import TokenDecisions as TokenDecisions
    from vlm_bridge.skip.by_token import generate_by_token as generate_by_token
    from vlm_bridge.skip.describe import describe as describe
    from vlm_bridge.skip.export import prune as prune
    from vlm_bridge.skip.export_gguf import export_gguf as export_gguf
    from vlm_bridge.skip.export_onnx import export_onnx as export_onnx
    from vlm_bridge.skip.lossless import LosslessTokens as LosslessTokens
    from vlm_bridge.skip.lossless import generate_lossless as generate_lossless
    from vlm_bridge.skip.onnx_model import OnnxModel as OnnxModel


_NAMES = LazyNames(__name__, __file__)
__all__ = sorted(_NAMES.sources)


def __getattr__(name: str) -> Any:
    try:
        globals()[name] = value = _NAMES.get(name)
    except ModuleNotFoundError as error:
        raise missing_extra(f"vlm_bridge.{name}", error) from None
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
