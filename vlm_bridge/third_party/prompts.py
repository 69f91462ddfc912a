"""The spoken prompts of Asterisk: recordings of one speaker and their transcripts."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.saving import named
from vlm_bridge.third_party.speech import words, write_clips

#: Clusters of each split; `train` takes the rest.
SIZES = {"test": 80, "certification": 80, "tuning": 30, "profile": 20, "train": 0}
_LEAST_WORDS = 3
_MAX_BYTES = 2**20
#: A transcript that describes a sound instead of saying what is spoken.
_DESCRIBED = re.compile(r"[\[\]()<>]")


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Write the prompts of three words or more, of 30 s at most."""
    texts = read_transcripts(named(files, ".txt.gz"))
    sounds = {name: path for name, path in files.items() if name.endswith(".wav")}
    root = next(
        PurePosixPath(name).parents[0] for name in sounds if "/en_US_f_Allison/hello.wav" in name
    )
    clips = {
        name: (sounds[file], text)
        for name, text in texts.items()
        if (file := f"{root}/{name}.wav") in sounds and _is_sentence(text)
    }
    write_clips(clips, SIZES, folder)


def _is_sentence(text: str) -> bool:
    return len(words(text)) >= _LEAST_WORDS and not _DESCRIBED.search(text)


def read_transcripts(path: Path) -> dict[str, str]:
    """The transcript of every prompt by its name; a line is `NAME: TEXT`, or a comment after `;`.

    Raises:
        BridgeError: the file is not gzipped text, or a line has no name.
    """
    try:
        with gzip.open(path) as handle:
            text = handle.read(_MAX_BYTES).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BridgeError(f"cannot read {path}: {error}") from None
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        name, mark, said = line.partition(":")
        if not mark:
            raise BridgeError(f"{path}:{number} has no name of a prompt")
        found[name.strip()] = " ".join(said.split())
    return found
