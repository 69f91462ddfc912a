"""Recorded sentences as WAV files of one format, with transcripts and fixed splits."""

from __future__ import annotations

import hashlib
import json
import math
import re
import wave
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import write_bytes

#: Samples in a second of every clip that is written.
RATE = 16_000
MANIFEST = "manifest.jsonl"
#: Length of the longest clip of a data set, in seconds: Whisper hears no more at once.
MAX_SECONDS = 30.0
_WORD = re.compile(r"[a-z0-9']+")
_SEED = "skipit-1"

Samples = NDArray[np.int16]


def words(text: str) -> list[str]:
    """The words of a transcript: lower case, without punctuation.

    >>> words("I'm sorry, that's not 42!")
    ["i'm", 'sorry', "that's", 'not', '42']
    """
    return _WORD.findall(text.lower())


def read_wav(path: Path) -> tuple[Samples, int]:
    """The samples (n,) of a mono WAV file of 16 bits, and its rate in Hz.

    Raises:
        BridgeError: the file is no WAV file of this kind, or it is cut off.
    """
    try:
        with wave.open(str(path), "rb") as clip:
            channels, width, rate, count, _, _ = clip.getparams()
            data = clip.readframes(count)
    except (wave.Error, OSError, EOFError) as error:
        raise BridgeError(f"{path} is no WAV file: {error}") from None
    if (channels, width) != (1, 2):
        raise BridgeError(f"{path} has {channels} channels of {8 * width} bits; expected 1 of 16")
    if len(data) != 2 * count:
        raise BridgeError(f"{path} is cut off: {len(data)} bytes of {2 * count}")
    return np.frombuffer(data, "<i2").astype(np.int16), rate


def resampled(samples: Samples, rate: int) -> Samples:
    """The clip at `RATE`, by a polyphase filter; values beyond 16 bits are cut.

    Example:
        >>> resampled(np.zeros(8, np.int16), 8000).shape
        (16,)
    """
    if rate == RATE:
        return samples
    common = math.gcd(rate, RATE)
    exact: NDArray[np.float64] = resample_poly(
        samples.astype(np.float64), RATE // common, rate // common
    )
    limits = np.iinfo(np.int16)
    whole: Samples = np.clip(np.rint(exact), limits.min, limits.max).astype(np.int16)
    return whole


def write_wav(path: Path, samples: Samples) -> None:
    """Write a mono WAV file of 16 bits at `RATE`."""
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(RATE)
        clip.writeframes(samples.astype("<i2").tobytes())


def split_clusters(clusters: Iterable[str], sizes: Mapping[str, int]) -> dict[str, str]:
    """The split of each cluster, the same everywhere and for ever.

    Clusters are ordered by SHA-256 of a fixed seed and their text; the splits take `sizes` of them
    in turn, and the last split takes the rest.

    Example:
        >>> split_clusters(["a b c", "d e f", "a b c"], {"test": 1, "train": 0})
        {'a b c': 'test', 'd e f': 'train'}
    """

    def place(cluster: str) -> str:
        return hashlib.sha256(f"{_SEED}:{cluster}".encode()).hexdigest()

    ordered = sorted(set(clusters), key=place)
    names = [name for name, size in sizes.items() for _ in range(size)]
    last = list(sizes)[-1]
    names = [*names, *[last] * (len(ordered) - len(names))]
    return dict(zip(ordered, names, strict=False))


def write_clips(clips: Mapping[str, tuple[Path, str]], sizes: Mapping[str, int], out: Path) -> None:
    """Write clips of at most `MAX_SECONDS` into `audio/` and their manifest.

    A line of the manifest is `{"audio", "text", "cluster", "split"}`: the file below the folder,
    the transcript, the words of the transcript, and the split. Clips of the same words are one
    cluster, and a cluster lies in one split.

    Args:
        clips: name of a clip -> its recording and its transcript.
        sizes: clusters of each split; the last takes the rest.
        out: the folder to write into.
    """
    (out / "audio").mkdir()
    rows = []
    for name, (path, text) in sorted(clips.items()):
        samples, rate = read_wav(path)
        if len(samples) > MAX_SECONDS * rate:
            continue
        file = f"audio/{name.replace('/', '-')}.wav"
        write_wav(out / file, resampled(samples, rate))
        rows.append({"audio": file, "text": text, "cluster": " ".join(words(text))})
    splits = split_clusters([row["cluster"] for row in rows], sizes)
    lines = [json.dumps(row | {"split": splits[row["cluster"]]}) for row in rows]
    write_bytes(out / MANIFEST, ("\n".join(lines) + "\n").encode())
