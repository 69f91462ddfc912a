"""The LibriVox clips of CMU Sphinx: five sentences and their transcripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import read_bytes
from vlm_bridge.third_party.saving import named
from vlm_bridge.third_party.speech import write_clips

#: All of the five clips are for tests.
SIZES = {"test": 0}
_LINE = re.compile(r"<s> (?P<text>.+) </s> \((?P<name>.+)\)")


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Write the clips of the transcribed sentences."""
    transcripts = named(files, "transcription")
    lines = read_bytes(transcripts, "transcripts").decode("utf-8", "replace").splitlines()
    clips = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise BridgeError(f"{transcripts}:{number} is no transcript of a clip")
        clips[match["name"]] = (named(files, f"{match['name']}.wav"), match["text"])
    write_clips(clips, SIZES, folder)
