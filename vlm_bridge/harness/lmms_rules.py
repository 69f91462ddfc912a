"""What a run of lmms-eval must say of its plan, and what its tasks may ask of an answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.harness.planned_model import PlannedModel

#: Letters of a hash that name a plan.
_SHORTEST = 12
#: Options of generation -> their values under which an answer is greedy.
_GREEDY: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "temperature": (0, None),
    "num_beams": (None, 1),
}


def check_hash(planned: PlannedModel, plan: str | None, plan_hash: str | None) -> None:
    """Refuse a plan file without its hash, and a hash of another plan.

    Raises:
        BridgeError: as said; a hash of fewer than 12 letters.
    """
    own = planned.plan_hash
    if plan_hash is None:
        if plan is not None and (str(plan).endswith(".json") or os.path.isfile(plan)):
            raise BridgeError(
                "a plan file may change, and lmms-eval would take old answers for new ones; add "
                f"plan_hash={own[:_SHORTEST]}"
            )
    elif len(str(plan_hash)) < _SHORTEST or not own.startswith(str(plan_hash)):
        raise BridgeError(
            f"plan_hash={plan_hash} is not that of this plan, {own[:_SHORTEST]}; is it the right "
            "file?"
        )


def check_greedy(task: str, options: Mapping[str, Any]) -> None:
    """Refuse a task whose answers are not greedy.

    Example:
        >>> check_greedy("mme", {"temperature": 0.7})
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: mme asks for temperature=0.7, and this model answers \
greedily; pass --gen_kwargs temperature=0,do_sample=False,num_beams=1
    """
    for name, values in _GREEDY.items():
        if name in options and options[name] not in values:
            raise BridgeError(
                f"{task} asks for {name}={shown(options[name])}, and this model answers greedily; "
                "pass --gen_kwargs temperature=0,do_sample=False,num_beams=1"
            )


def cut(text: str, stops: Sequence[str]) -> str:
    """An answer up to the first of the texts that end it, without outer white space.

    Example:
        >>> cut("two circles. And", [".", "circles"])
        'two'
    """
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text.strip()
