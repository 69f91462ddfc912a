"""Read a WAV file as one channel of samples, at the rate that a model hears."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

from vlm_bridge.errors import BridgeError, shown

#: Most bytes of an audio file, and longest recording, so that no file fills the memory.
MAX_BYTES, MAX_SECONDS = 2**29, 3600
#: Rates of real recordings, in samples per second.
_RATES = (1_000, 768_000)


def read_audio(path: Path, rate: int | None = None) -> NDArray[np.float32]:
    """(samples,) between -1 and 1: the mean of the channels, resampled to `rate` per second.

    Integers (PCM of 8, 16, 24 or 32 bits) are divided by half their range; floating-point samples
    stay as they are. Another rate is reached by a polyphase filter (`scipy.signal.resample_poly`).
    Without `rate` the samples are those of the file.

    Raises:
        BridgeError: no such file, no WAV file or a broken or truncated one, no samples, a NaN or
            infinite one, floating-point samples beyond 10, a rate that no recording has, or more
            than `MAX_BYTES` or `MAX_SECONDS`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.wav"
        ...     wavfile.write(path, 8_000, np.array([[0, 16384]] * 80, dtype=np.int16))
        ...     read_audio(path).tolist()[:2], len(read_audio(path, 16_000))
        ([0.25, 0.25], 160)
    """
    found, data = _read(path)
    samples = _as_floats(data)
    if not np.isfinite(samples).all():
        raise BridgeError(f"the audio file {path} holds samples that are NaN or infinite")
    if np.abs(samples).max() > 10:
        raise BridgeError(
            f"the audio file {path} holds floating-point samples up to {np.abs(samples).max():g}; "
            "they lie between -1 and 1: scale them"
        )
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    if rate is not None and rate != found:
        common = math.gcd(rate, found)
        mono = resample_poly(mono, rate // common, found // common)
    return np.asarray(mono, dtype=np.float32)


def _read(path: Path) -> tuple[int, NDArray[np.generic]]:
    """The rate and the samples of a file, (samples,) or (samples, channels)."""
    if not os.path.isfile(path):
        raise BridgeError(f"no audio file at {shown(str(path)) if chr(0) in str(path) else path}")
    if (size := os.path.getsize(path)) > MAX_BYTES:
        raise BridgeError(f"the audio file {path} has {size} bytes, more than {MAX_BYTES}; cut it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)
            warnings.filterwarnings("ignore", "Chunk .non-data. not understood")
            rate, data = wavfile.read(path)
    except Exception as error:  # scipy raises errors of many types on broken files
        # A ValueError or warning is about the file, if not always; others are slips of scipy.
        said = " ".join(str(error).split())
        told = isinstance(error, ValueError | Warning) and "reshape" not in said
        why = said if told and said else "its header or its length is wrong"
        raise BridgeError(
            f"cannot read the audio file {path}: {why}; it must be WAV, PCM or floating point"
        ) from None
    if not _RATES[0] <= rate <= _RATES[1]:
        raise BridgeError(f"the audio file {path} has {rate} samples a second; no recording does")
    if data.size == 0:
        raise BridgeError(f"the audio file {path} holds no samples")
    if len(data) > MAX_SECONDS * rate:
        raise BridgeError(
            f"the audio file {path} lasts {len(data) / rate:.0f} s, more than {MAX_SECONDS}; cut it"
        )
    return int(rate), data


def _as_floats(data: NDArray[np.generic]) -> NDArray[np.float64]:
    """Samples between -1 and 1; scipy gives 24 bits as the upper bits of 32."""
    values = data.astype(np.float64)
    if data.dtype == np.uint8:
        return (values - 128.0) / 128.0
    return values / 2.0 ** (8 * data.itemsize - 1) if data.dtype.kind == "i" else values
