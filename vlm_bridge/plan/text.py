"""A plan written as words on the command line, without a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import DEPTHS, LISTS, MODES
from vlm_bridge.plan.skip_plan import SkipPlan


def read_plan(words: str) -> Callable[[int], SkipPlan]:
    """Read the plan file that `words` names, or parse `words` as a plan.

    The result maps the number of layers to the plan. A file is read at once, so that a wrong name
    is refused before a model is loaded. In words, parts are joined by `+`; a part is a mode and
    its fields, `layers=3,5-7`, `exit=20`.

    Example:
        >>> print(read_plan("band entry=4 exit=20")(30).describe())
        vision tokens exist in layers 4 to 19 only (band, 30 layers)
    """
    if Path(words).suffix == ".json" or Path(words).is_file():
        plan = SkipPlan.read(words)
        return lambda n_layers: plan
    parts = [_part(part.split(), words) for part in words.split("+")]
    return lambda n_layers: SkipPlan.compose(
        *(SkipPlan(mode, n_layers=n_layers, **fields) for mode, fields in parts)
    )


def _part(words: list[str], whole: str) -> tuple[str, dict[str, Any]]:
    if not words or words[0] not in MODES:
        raise BridgeError(
            f"'{whole}' is neither a plan file nor a plan in words; a part is a mode "
            f"({', '.join(MODES)}) and its fields, as in 'block layers=3,5-7'"
        )
    fields: dict[str, Any] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _PARSERS:
            raise BridgeError(f"a plan has no '{name}'; it has {', '.join(_PARSERS)}")
        try:
            fields[name] = _PARSERS[name](value)
        except ValueError:
            raise BridgeError(f"'{word}' in the plan '{whole}' is not a number or range") from None
    return words[0], fields


def _layers(value: str) -> tuple[int, ...]:
    ends = [run.partition("-") for run in value.split(",")]
    return tuple(i for a, _, b in ends for i in range(int(a), int(b or a) + 1))


_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(LISTS, _layers),
    **dict.fromkeys(DEPTHS, int),
    "keep": float,
}
