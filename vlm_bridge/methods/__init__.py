"""Published methods that skip; `methods.run` runs them, and `rules` has the scores of some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlm_bridge.errors import BridgeError, among
from vlm_bridge.methods.delask import DeLaskMethod as DeLaskMethod
from vlm_bridge.methods.planned import EvenMethod as EvenMethod
from vlm_bridge.methods.planned import GMSkipMethod as GMSkipMethod
from vlm_bridge.methods.protocol import Method as Method
from vlm_bridge.methods.skip_vision import SkipVisionMethod as SkipVisionMethod
from vlm_bridge.methods.unified import UnifiedMethod as UnifiedMethod

_ALL: tuple[Method, ...] = (
    GMSkipMethod(),
    SkipVisionMethod(),
    DeLaskMethod(),
    UnifiedMethod(),
    EvenMethod(),
)
#: Every method that `skipit method` takes.
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def find_method(name: str, **settings: Any) -> Method:
    """The method of that name with these settings; the others stay at their defaults.

    Raises:
        BridgeError: unknown method or setting, or an invalid value.

    Example:
        >>> find_method("unified", speed_up=3).speed_up
        3
    """
    if name not in METHODS:
        raise BridgeError(f"unknown method '{name}'; {among(name, METHODS)}")
    known = METHODS[name].settings
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise BridgeError(
            f"method '{name}' has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return replace(METHODS[name], **settings)
