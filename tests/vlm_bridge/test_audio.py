"""WAV files of every kind are read as they sound; broken ones are refused in one line."""

from __future__ import annotations

import re
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from vlm_bridge.data.audio import MAX_SECONDS, read_audio
from vlm_bridge.errors import BridgeError

RATE = 8_000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def write(path, width, values, *, rate=RATE, channels=1):
    """PCM of `width` bytes a sample, from values in [-1, 1)."""
    whole = np.round(np.asarray(values).ravel() * 2 ** (8 * width - 1)).astype(np.int64)
    if width == 1:  # unsigned
        whole += 128
    data = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in whole)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_every_width(tmp_path, width):
    samples = read_audio(write(tmp_path / "a.wav", width, TONE))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, TONE, atol=2.0 ** (1 - 8 * width) + 1e-7)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point(tmp_path, kind):
    wavfile.write(tmp_path / "a.wav", RATE, TONE.astype(kind))
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), TONE, atol=1e-7)


def test_channels_are_averaged(tmp_path):
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    found = read_audio(write(tmp_path / "a.wav", 2, both, channels=2))
    np.testing.assert_allclose(found, TONE / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [16_000, 11_025, 4_000])
def test_a_tone_stays_the_tone_at_another_rate(tmp_path, rate):
    path = write(tmp_path / "a.wav", 2, TONE)
    found = read_audio(path, rate)
    assert len(found) == -(-len(TONE) * rate // RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / rate)
    middle = slice(len(found) // 10, -len(found) // 10)  # the filter rings at both ends
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.02)
    assert np.array_equal(read_audio(path, RATE), read_audio(path))


def test_what_a_lower_rate_cannot_hold_is_filtered_not_folded(tmp_path):
    high = 0.5 * np.sin(2 * np.pi * 3_000 * np.arange(RATE) / RATE)
    assert np.abs(read_audio(write(tmp_path / "a.wav", 2, high), 4_000)[200:-200]).max() < 0.01


def test_chunks_of_text_are_passed_over(tmp_path):
    path = write(tmp_path / "a.wav", 2, TONE)
    data = path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    np.testing.assert_allclose(read_audio(path), TONE, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"", "cannot read the audio file"),
        (lambda data: b"ID3\3 an mp3" + data[20:], "it must be WAV, PCM or floating point"),
        (lambda data: data[:200], "cannot read the audio file"),
        (lambda data: data[:30], "cannot read the audio file"),
        (lambda data: data[:20] + struct.pack("<H", 85) + data[22:], "cannot read the audio file"),
        (lambda data: data[:24] + struct.pack("<II", 3, 6) + data[32:], "has 3 samples a second"),
        (lambda data: data[:22] + struct.pack("<H", 0) + data[24:], "cannot read the audio file"),
        (lambda data: data[:22] + struct.pack("<H", 7) + data[24:], "cannot read the audio file"),
        (lambda data: data[:12] + b"data" + data[16:], "cannot read the audio file"),
    ],
    ids=[
        *("empty", "another format", "truncated", "half a head", "compressed", "rate"),
        *("no channels", "frames cut in two", "no format"),
    ],
)
def test_broken_files(tmp_path, change, says):
    path = write(tmp_path / "a.wav", 2, TONE)
    path.write_bytes(change(path.read_bytes()))
    with refused(says) as error:
        read_audio(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    slips = ("local variable", "reshape", "division", "subscript", "object")
    assert not any(slip in str(error.value) for slip in slips)  # scipy's own


@given(at=st.integers(0, 60), value=st.integers(0, 255))
def test_a_changed_byte_of_the_head_is_read_or_refused(tmp_path_factory, at, value):
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    data = bytearray(write(path, 2, TONE[:50]).read_bytes())
    data[at % len(data)] = value
    path.write_bytes(bytes(data))
    says = ""
    try:
        assert np.isfinite(read_audio(path)).all()
    except BridgeError as error:
        says = str(error)
    assert "\n" not in says


def test_what_is_no_recording(tmp_path):
    path = tmp_path / "a.wav"
    with refused(f"no audio file at {path}"):
        read_audio(path)
    for values, says in (
        ([0.0, np.nan], "holds samples that are NaN or infinite"),
        ([0.0, np.inf], "holds samples that are NaN or infinite"),
        ([0.0, 3e4], "floating-point samples up to 30000"),
        ([], "holds no samples"),
    ):
        wavfile.write(path, RATE, np.array(values, dtype=np.float32))
        with refused(says):
            read_audio(path)
    wavfile.write(path, 1_000, np.zeros(MAX_SECONDS * 1_000 + 1, dtype=np.uint8))
    with refused(f"lasts 3600 s, more than {MAX_SECONDS}; cut it"):
        read_audio(path)


def test_too_many_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", 2, TONE)
    monkeypatch.setattr("vlm_bridge.data.audio.MAX_BYTES", 1_000)
    with refused("bytes, more than 1000; cut it"):
        read_audio(path)
