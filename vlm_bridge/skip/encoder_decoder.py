"""Follow the passes of an encoder-decoder that skips: its caches, and no modality tokens."""

from __future__ import annotations

from typing import Any

from vlm_bridge.skip.cache import check_cache
from vlm_bridge.skip.tracker import PassTracker


class EncoderDecoderTracker(PassTracker):
    """Follows the passes of a decoder whose prompt an encoder reads; every position is text."""

    def _start(self, arguments: dict[str, Any]) -> None:
        cache = arguments.get("past_key_values")
        check_cache(cache)
        self._stamp.check(cache)
        self._stamp.put(cache)  # before the pass, which may fail when it has filled some layers
