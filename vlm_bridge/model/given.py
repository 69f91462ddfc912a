"""Checks of what public verbs are given; the message says how to make what is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError, got
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan


def check_vlm(vlm: Any) -> None:
    """Raise a `BridgeError` unless `vlm` is a loaded model."""
    if not isinstance(vlm, VLM):
        raise BridgeError(
            f"a model is wanted, got {got(vlm)}; load one with vb.load(NAME), or wrap one in "
            "memory with vb.wrap(model, processor)"
        )


def given_model(model: Any) -> VLM:
    """A loaded model: `model` itself, or the one of that folder or name; errors are `load`'s."""
    if isinstance(model, str | os.PathLike):
        return load(os.fspath(model))
    check_vlm(model)
    loaded: VLM = model
    return loaded


def check_items(items: Any) -> list[Item]:
    """The items as a list; a `BridgeError` unless each is an `Item`."""
    how = "read them with vlm_bridge.data.read_jsonl(PATH)"
    if isinstance(items, str | os.PathLike | dict | SkipPlan) or not isinstance(items, Iterable):
        raise BridgeError(f"a list of items is wanted, got {got(items)}; {how}")
    listed = list(items)
    for place, item in enumerate(listed):
        if not isinstance(item, Item):
            raise BridgeError(f"items[{place}] is no Item but {got(item)}; {how}")
    return listed


def given_plan(vlm: VLM, plan: Any) -> SkipPlan:
    """A plan for every answer: `plan` itself, or the one that words or a file name for `vlm`.

    Raises:
        BridgeError: neither a `SkipPlan` nor words; errors of words are those of `read_plan`.
    """
    if isinstance(plan, str | os.PathLike):
        return read_plan(os.fspath(plan))(vlm.layout.depth)
    if isinstance(plan, AdaptivePlan):
        raise BridgeError(
            "an AdaptivePlan decides answer by answer, which needs whole answers: it has no fixed "
            "set of layers; run it with vb.adaptive_answers(vlm, items, plan), or with "
            "vlm.model.generate inside `with vb.skipping(vlm, plan)`, and certify it by "
            "adaptive_search"
        )
    if not isinstance(plan, SkipPlan):
        raise BridgeError(
            f"a plan is wanted, got {got(plan)}; give a SkipPlan, the path of its file, or words "
            "such as 'freeze layers=2-11'"
        )
    return plan


def given_plans(vlm: VLM, plans: Any) -> list[SkipPlan]:
    """`given_plan` of each of several."""
    if isinstance(plans, str | os.PathLike) or not isinstance(plans, Iterable):
        raise BridgeError(f"a list of plans is wanted, got {got(plans)}; put it into a list")
    return [given_plan(vlm, plan) for plan in plans]


def check_adaptive(plan: Any) -> None:
    """Raise a `BridgeError` unless `plan` is an adaptive plan."""
    if not isinstance(plan, AdaptivePlan):
        raise BridgeError(
            f"an AdaptivePlan is wanted, got {got(plan)}; make one as "
            "AdaptivePlan((Gate(plan, 'margin', threshold),)), or by `skipit search --adaptive`"
        )
