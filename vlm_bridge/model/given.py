"""Checks of what public verbs are given; the message says how to make what is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan


def check_vlm(vlm: Any) -> None:
    """Raise a `BridgeError` unless `vlm` is a loaded model."""
    if not isinstance(vlm, VLM):
        raise BridgeError(f"a model is wanted, got {_got(vlm)}; load one with vb.load(NAME)")


def check_items(items: Any) -> list[Item]:
    """The items as a list; a `BridgeError` unless each is an `Item`."""
    how = "read them with vlm_bridge.data.read_jsonl(PATH)"
    if isinstance(items, str | os.PathLike | dict | SkipPlan) or not isinstance(items, Iterable):
        raise BridgeError(f"a list of items is wanted, got {_got(items)}; {how}")
    listed = list(items)
    for place, item in enumerate(listed):
        if not isinstance(item, Item):
            raise BridgeError(f"items[{place}] is no Item but {_got(item)}; {how}")
    return listed


def check_plan(plan: Any) -> None:
    """Raise a `BridgeError` unless `plan` is a plan for every answer."""
    if isinstance(plan, AdaptivePlan):
        raise BridgeError(
            "an AdaptivePlan decides answer by answer, which needs whole answers: it has no fixed "
            "set of layers; run it with vb.adaptive_answers(vlm, items, plan), or with "
            "vlm.model.generate inside `with vb.skipping(vlm, plan)`, and certify it by "
            "adaptive_search"
        )
    if not isinstance(plan, SkipPlan):
        raise BridgeError(
            f"a plan is wanted, got {_got(plan)}; make one as SkipPlan(...), or from words or a "
            "file with vlm_bridge.plan.text.read_plan(WORDS)(vlm.layout.depth)"
        )


def check_adaptive(plan: Any) -> None:
    """Raise a `BridgeError` unless `plan` is an adaptive plan."""
    if not isinstance(plan, AdaptivePlan):
        raise BridgeError(
            f"an AdaptivePlan is wanted, got {_got(plan)}; make one as "
            "AdaptivePlan((Gate(plan, 'margin', threshold),)), or by `skipit search --adaptive`"
        )


def _got(value: object) -> str:
    """A value with its type, as a message shows it."""
    if isinstance(value, str | int | float | dict | os.PathLike) or value is None:
        return shown(value)
    return f"a {type(value).__name__}"
