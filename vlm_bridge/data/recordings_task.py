"""Recorded sentences with their transcripts: what a speech recogniser should write down."""

from __future__ import annotations

import json
from functools import partial

from vlm_bridge import third_party
from vlm_bridge.data.items import TRANSCRIBE, Item
from vlm_bridge.errors import BridgeError

#: Data set -> its splits. Sentences of the same words are one unit, which lies in one split.
SPLITS = {
    "spoken-prompts": ("test", "certification", "tuning", "profile", "train"),
    "librivox": ("test",),
}


def recordings(name: str, split: str) -> list[Item]:
    """The items of a split of one of `SPLITS`, one for each recording; the transcript is the label.

    Raises:
        BridgeError: no such split, or the data set is not fetched.

    Example:
        >>> len(recordings("librivox", "test"))  # doctest: +SKIP
        5
    """
    if split not in SPLITS[name]:
        raise BridgeError(f"{name} has no split '{split}'; it has {', '.join(SPLITS[name])}")
    folder = third_party.dataset_folder(name)
    rows = map(json.loads, (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        Item(None, TRANSCRIBE, row["text"], row["cluster"], audio=folder / row["audio"])
        for row in rows
        if row["split"] == split
    ]


spoken_prompts = partial(recordings, "spoken-prompts")
librivox = partial(recordings, "librivox")
