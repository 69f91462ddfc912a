"""A plan in words, for people who want to try one without writing a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan


def read_plan(words: str) -> Callable[[int], SkipPlan]:
    """The plan in the file `words` names, or the plan that they spell, once the depth is known.

    A file is read at once, so that a wrong name is told before a model is loaded. In words,
    parts are joined by `+`; a part is a mode and its fields, `layers=3,5-7`, `exit=20`.

    Returns:
        Number of layers -> the plan.

    Raises:
        BridgeError: no such file, or words that spell no plan.

    Example:
        >>> print(read_plan("band entry=4 exit=20")(30).describe())
        vision tokens exist in layers 4 to 19 only (band, 30 layers)
    """
    if Path(words).suffix == ".json" or Path(words).is_file():
        plan = SkipPlan.read(words)
        return lambda n_layers: plan
    parts = [_part(part.split(), words) for part in words.split("+")]

    def made(n_layers: int) -> SkipPlan:
        plans = [SkipPlan(mode, n_layers=n_layers, **fields) for mode, fields in parts]
        return plans[0] if len(plans) == 1 else SkipPlan.compose(*plans)

    return made


def _part(words: list[str], whole: str) -> tuple[str, dict[str, Any]]:
    if not words or words[0] not in MODES:
        raise BridgeError(
            f"'{whole}' is neither a plan file nor a plan in words; a part is a mode "
            f"({', '.join(MODES)}) and its fields, as in 'block layers=3,5-7'"
        )
    fields: dict[str, Any] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _FIELDS:
            raise BridgeError(f"a plan has no '{name}'; it has {', '.join(_FIELDS)}")
        try:
            fields[name] = _FIELDS[name](value)
        except ValueError:
            raise BridgeError(f"'{word}' in the plan '{whole}' is not a number or range") from None
    return words[0], fields


def _layers(value: str) -> tuple[int, ...]:
    found: list[int] = []
    for run in value.split(","):
        first, _, last = run.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


_FIELDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("layers", "attention", "mlp"), _layers),
    **dict.fromkeys(("entry", "exit", "after"), int),
    "keep": float,
}
