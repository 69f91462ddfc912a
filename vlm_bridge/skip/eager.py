"""Compiled code of the process runs eagerly while a model skips."""

from __future__ import annotations

import contextlib
from threading import Lock

import torch

from vlm_bridge.errors import BridgeError

_changing = Lock()


class _Eager(contextlib.AbstractContextManager[None]):
    """Compiled code of the process runs eagerly while any model skips, in whichever order."""

    def __init__(self) -> None:
        self._blocks, self._stance = 0, contextlib.ExitStack()

    def __enter__(self) -> None:
        with _changing:
            if self._blocks == 0:
                try:
                    self._stance.enter_context(torch.compiler.set_stance("force_eager"))
                except RuntimeError as error:
                    raise BridgeError(
                        "a block of `skipping` begins inside a function that torch.compile "
                        "compiles; compile what runs inside the block, or nothing"
                    ) from error
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with _changing:
            self._blocks -= 1
            if self._blocks == 0:
                self._stance.close()


#: The block that every run under a plan opens.
eager = _Eager()
