"""A plan written as words, without a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.checks import MAX_LAYERS
from vlm_bridge.plan.modes import DEPTHS, LISTS, MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER, STACKS, Depths, depth_in

_WHOLE = re.compile(r"[0-9]{1,9}")
_RUN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?")


def read_plan(words: str) -> Callable[[Depths], SkipPlan]:
    """Read the plan file that `words` names, or parse `words` as a plan.

    The result maps the number of layers to the plan: the decoder's, or a function that gives that
    of every stack (`vlm.layout.depth`). A file is read at once, so that a wrong name is refused
    before a model is loaded. In words, parts are joined by `+`; a part is a mode and its fields,
    `layers=3,5-7`, `exit=20`, `stages=8:0.5,16:0.25`, each given once; `stack=audio` says that it
    is about the audio encoder. The name of a mode's only field may be left out, as in
    `freeze 2-11` and `early_exit 20`.

    Raises:
        BridgeError: no such file or not a plan; an unknown mode or field, a field twice, a mode
            without fields, or a value that is not a number, a list or an ascending range.

    Example:
        >>> print(read_plan("band entry=4 exit=20")(30).describe())
        vision tokens exist in layers 4 to 19 only (band, 30 layers)
        >>> print(read_plan("block layers=1,2 stack=audio")(lambda stack: 4).describe())
        skip layers 1-2 (2 of 4) of the audio encoder
        >>> read_plan("progressive_pruning stages=8:0.5,16:0.25")(30).stages
        ((8, 0.5), (16, 0.25))
        >>> read_plan("freeze 2-4")(30) == read_plan("freeze layers=2-4")(30)
        True
    """
    if Path(words).suffix == ".json" or os.path.isfile(words):
        plan = SkipPlan.read(words)
        return lambda depths: plan
    parts = [_part(part.split(), words) for part in words.split("+")]
    return lambda depths: SkipPlan.compose(
        *(
            SkipPlan(mode, depth_in(fields.get("stack", DECODER), depths), **fields)
            for mode, fields in parts
        )
    )


def _part(words: list[str], whole: str) -> tuple[str, dict[str, Any]]:
    if len(words) == 1 and words[0] not in MODES and re.search(r"[./\\]", words[0]):
        raise BridgeError(f"there is no plan file {words[0]}")
    if not words or words[0] not in MODES:
        raise BridgeError(
            f"{shown(whole)} is neither a plan file nor a plan in words; a part is a mode "
            f"({', '.join(MODES)}) and its fields, as in 'block layers=3,5-7'"
        )
    fields: dict[str, Any] = {}
    for word in words[1:]:
        if "=" not in word and len(takes := MODES[words[0]].takes) == 1:
            word = f"{takes[0]}={word}"
        name, _, value = word.partition("=")
        if name not in _PARSERS:
            raise BridgeError(f"a plan has no {shown(name)}; it has {', '.join(_PARSERS)}")
        if name in fields:
            raise BridgeError(f"'{name}' is given twice in the plan {shown(whole)}; give it once")
        try:
            fields[name] = _PARSERS[name](value)
        except ValueError as error:
            raise BridgeError(f"{shown(word)} in the plan {shown(whole)} {error}") from None
    if not fields.keys() - {"stack"}:
        wanted = " or ".join(f"'{name}='" for name in MODES[words[0]].takes)
        raise BridgeError(f"'{words[0]}' in the plan {shown(whole)} names no place; add {wanted}")
    return words[0], fields


def read_layers(value: str) -> tuple[int, ...]:
    """Layers in words, as `3,5-7`; a `ValueError` that says what else the words are."""
    layers: list[int] = []
    for run in value.split(","):
        ends = _RUN.fullmatch(run)
        if ends is None:
            raise ValueError("is not a list of numbers and ranges, as in 3,5-7")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if first > last:
            raise ValueError(f"has a range that runs backwards; write {last}-{first}")
        if layers and first <= layers[-1]:
            raise ValueError("is not ascending without repeats")
        if last >= MAX_LAYERS:
            raise ValueError(f"goes beyond layer {MAX_LAYERS - 1}")
        layers += range(first, last + 1)
    return tuple(layers)


def _depth(value: str) -> int:
    if _WHOLE.fullmatch(value) is None:
        raise ValueError("is not a whole number")
    return int(value)


def _share(value: str) -> float:
    if _NUMBER.fullmatch(value) is None:
        raise ValueError("is not a number")
    return float(value)


def _stages(value: str) -> tuple[tuple[int, float], ...]:
    stages = []
    for stage in value.split(","):
        depth, _, share = stage.partition(":")
        if _WHOLE.fullmatch(depth) is None or _NUMBER.fullmatch(share) is None:
            raise ValueError("is not a list of depths with their shares, as in 8:0.5,16:0.25")
        stages.append((int(depth), float(share)))
    return tuple(stages)


def _stack(value: str) -> str:
    if value not in STACKS:
        raise ValueError(f"names no stack; choose from {', '.join(STACKS)}")
    return value


_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(LISTS, read_layers),
    **dict.fromkeys(DEPTHS, _depth),
    "keep": _share,
    "select": str,
    "stages": _stages,
    "stack": _stack,
}
