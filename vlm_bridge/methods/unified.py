"""Unified Layer Skipping, as its authors run it: prefill in full, decoding through some layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.methods.protocol import Method
from vlm_bridge.rules import Evidence


@dataclass(frozen=True)
class UnifiedMethod(Method):
    """The prefill runs all L layers; decoding runs `L // speed_up` of them, whatever the input.

    Decoding runs layers 0 and L-1, and between them the first multiples of `L // (kept - 1)`. A
    layer that decoding leaves out caches copies of the keys and values of the next kept layer
    below. Without a cache every pass is a prefill, and nothing is skipped.

    Attributes:
        speed_up: of decoding, an integer from 2 on; the authors use 2, 3, 5 and 10.
    """

    speed_up: int = 2
    name = "unified"
    source = "Liu et al. 2024, arXiv:2404.06954, section 3 and its code"
    deviation = "the authors fine-tune at the same speed-up; here the weights stay as they are"
    takes: ClassVar[dict[str, str]] = {"speed_up": "an integer from 2 on"}
    runtime = "vlm_bridge.methods.decoding:decoding_through"

    def __post_init__(self) -> None:
        given: Any = self.speed_up  # the command line reads every setting as a float
        whole = isinstance(given, int | float) and given == given // 1 and given is not True
        if not whole or not 2 <= given < math.inf:
            raise BridgeError(f"speed_up must be an integer from 2 on, got {given!r}")
        object.__setattr__(self, "speed_up", int(given))

    def kept(self, n_layers: int) -> tuple[int, ...]:
        """The layers that decoding runs, ascending.

        Raises:
            BridgeError: fewer than two layers are left.

        Example:
            >>> UnifiedMethod(speed_up=5).kept(32)
            (0, 6, 12, 18, 24, 31)
        """
        count = n_layers // self.speed_up
        if count < 2:
            raise BridgeError(
                f"a speed-up of {self.speed_up} leaves {count} of {n_layers} layers, and the first "
                f"and the last stay: at most {n_layers // 2} is possible"
            )
        step = n_layers // (count - 1)
        return tuple(sorted({0, n_layers - 1, *(step * i for i in range(1, count - 1))}))

    def choose(self, evidence: Evidence) -> None:
        """None: no plan skips in decoding alone; too high a speed-up is a `BridgeError`."""
        self.kept(evidence.n_layers)
