"""How a server batches requests, and what it takes at most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from vlm_bridge.data.jsonl import MAX_LINE_BYTES
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS

#: The largest value of each whole number.
_MOST = {
    "batch_size": 1024,
    "queue": 100_000,
    "body_bytes": 2**30,
    "images": 1024,
    "max_tokens": 2**20,
    "prompt_tokens": 2**24,
}


@dataclass(frozen=True)
class ServerSettings:
    """Batching and limits of a server.

    Attributes:
        batch_size: most requests that are answered together.
        wait: seconds that the first request of a batch waits for others.
        queue: most requests that wait; a further one is refused with status 503.
        body_bytes: largest body of a request, with its images.
        images: most images of a request.
        max_tokens: longest answer that a request may ask for.
        default_tokens: longest answer where a request does not say.
        prompt_tokens: longest prompt, images included.

    Raises:
        BridgeError: a number of another type or out of range.

    Example:
        >>> ServerSettings(batch_size=0)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: batch_size must be a whole number from 1 to 1024, got 0
    """

    batch_size: int = 16
    wait: float = 0.01
    queue: int = 64
    body_bytes: int = MAX_LINE_BYTES
    images: int = 8
    max_tokens: int = 1024
    default_tokens: int = MAX_NEW_TOKENS
    prompt_tokens: int = 32768

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            _check_whole(name, getattr(self, name), most)
        _check_whole("default_tokens", self.default_tokens, self.max_tokens)
        wait: Any = self.wait
        number = isinstance(wait, int | float) and not isinstance(wait, bool)
        if not number or not math.isfinite(wait) or not 0 <= wait <= 60:
            raise BridgeError(f"wait must be a number of seconds from 0 to 60, got {shown(wait)}")


def _check_whole(name: str, value: object, most: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= value <= most:  # type: ignore[operator]
        raise BridgeError(f"{name} must be a whole number from 1 to {most}, got {shown(value)}")
