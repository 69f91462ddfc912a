"""Published methods that skip, run end to end; `rules` has the scores some of them rank by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.delask import DeLaskMethod as DeLaskMethod
from vlm_bridge.methods.planned import GMSkipMethod as GMSkipMethod
from vlm_bridge.methods.planned import UnifiedMethod as UnifiedMethod
from vlm_bridge.methods.protocol import Method as Method
from vlm_bridge.methods.run import MethodResult as MethodResult
from vlm_bridge.methods.run import run_method as run_method
from vlm_bridge.methods.run import settings_of as settings_of
from vlm_bridge.methods.skip_vision import SkipVisionMethod as SkipVisionMethod

_ALL: tuple[Method, ...] = (GMSkipMethod(), SkipVisionMethod(), DeLaskMethod(), UnifiedMethod())
#: Every method `skipit method` knows.
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def find_method(name: str, **settings: Any) -> Method:
    """The method of that name, with some of its settings changed.

    Raises:
        BridgeError: there is no such method or setting, or a value is not possible.

    Example:
        >>> find_method("unified", speed_up=1.5).speed_up
        1.5
    """
    if name not in METHODS:
        raise BridgeError(f"unknown method '{name}'; choose from {', '.join(METHODS)}")
    known = settings_of(METHODS[name])
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise BridgeError(
            f"method '{name}' has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )
    made: Method = replace(METHODS[name], **settings)  # type: ignore[type-var]
    return made
