"""Recordings keep their sound, splits never share a sentence, and broken files are refused."""

from __future__ import annotations

import gzip
import json
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party import fashion, librivox, prompts
from vlm_bridge.third_party.speech import (
    RATE,
    read_wav,
    resampled,
    split_clusters,
    words,
    write_clips,
    write_wav,
)

SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"


def tone(hertz, rate, seconds):
    """A sine of amplitude 8,000."""
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def wav(path, samples, rate=8000, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(channels)
        clip.setsampwidth(width)
        clip.setframerate(rate)
        clip.writeframes(samples.tobytes())
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 48000])
def test_a_tone_is_the_same_tone_at_16_khz(rate):
    found, wanted = resampled(tone(440, rate, 1), rate), tone(440, RATE, 1)
    assert len(found) == RATE
    inside = slice(RATE // 10, -RATE // 10)  # the filter's edges are no part of the claim
    assert np.abs(found[inside] - wanted[inside].astype(float)).max() < 40


def test_16_khz_is_left_as_it_is_and_loud_clips_are_cut():
    samples = tone(440, RATE, 0.1)
    assert resampled(samples, RATE) is samples
    square = np.repeat(np.array([32767, -32768], np.int16), 40)
    found = resampled(np.tile(square, 20), 8000)
    assert found.max() == 32767
    assert found.min() == -32768


def test_a_written_clip_is_read_back(tmp_path):
    samples = tone(100, RATE, 0.2)
    write_wav(tmp_path / "a.wav", samples)
    found, rate = read_wav(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"channels": 2}, "2 channels of 16 bits"), ({"width": 1}, "1 channels of 8 bits")],
)
def test_another_kind_of_clip_is_refused(options, says, tmp_path):
    with pytest.raises(BridgeError, match=says):
        read_wav(wav(tmp_path / "a.wav", tone(100, 8000, 0.1), **options))


def test_a_clip_that_ends_early_is_refused(tmp_path):
    path = wav(tmp_path / "a.wav", tone(100, 8000, 0.1))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(BridgeError, match="is cut off: 1300 bytes of 1600"):
        read_wav(path)
    path.write_bytes(b"no sound")
    with pytest.raises(BridgeError, match="is no WAV file"):
        read_wav(path)


texts = st.lists(st.text("abc ", min_size=1, max_size=5), min_size=1, max_size=30)


@given(texts, st.integers(0, 9), st.integers(0, 9))
def test_a_cluster_lies_in_one_split_whatever_the_order(clusters, test, tune):
    sizes = {"test": test, "tune": tune, "train": 0}
    found = split_clusters(clusters, sizes)
    assert found == split_clusters(reversed(clusters), sizes)
    assert set(found) == set(clusters)
    counts = [list(found.values()).count(name) for name in sizes]
    assert counts[0] == min(test, len(found))
    assert counts[1] == min(tune, len(found) - counts[0])


def rows_of(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_the_same_words_are_one_cluster(tmp_path):
    said = {f"c{n}": text for n, text in enumerate(["Press one.", "press, ONE", "Press two!"] * 4)}
    sound = wav(tmp_path / "a.wav", tone(100, 8000, 0.1))
    out = tmp_path / "out"
    out.mkdir()
    write_clips({name: (sound, text) for name, text in said.items()}, {"a": 1, "b": 0}, out)
    rows = rows_of(out)
    assert {row["cluster"] for row in rows} == {"press one", "press two"}
    assert len({(row["cluster"], row["split"]) for row in rows}) == 2
    assert all(len(read_wav(out / row["audio"])[0]) == 1600 for row in rows)


TRANSCRIPTS = """; a comment

hello: Hello.
beep: [this is a beep tone]
silence/1: (1 second of silence)
digits/1: one  two   three
long: Far too long to hear at once.
gone: This sound is not there.
press: Press 1 now, please.
"""


def prompt_files(folder, transcripts=TRANSCRIPTS):
    """The prompts of which there is a recording, as in the package."""
    (folder / "core.txt.gz").write_bytes(gzip.compress(transcripts.encode()))
    files = {"usr/share/doc/core.txt.gz": folder / "core.txt.gz"}
    for name in ("hello", "beep", "silence/1", "digits/1", "long", "press"):
        seconds = 30.5 if name == "long" else 0.2
        path = wav(folder / "sounds" / f"{name}.wav", tone(300, 8000, seconds))
        files[f"{SOUNDS}/{name}.wav"] = path
    return files


def test_prompts_of_three_words_or_more_are_kept(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    prompts.convert(prompt_files(tmp_path), out)
    rows = {row["audio"]: row["text"] for row in rows_of(out)}
    assert rows == {
        "audio/digits-1.wav": "one two three",
        "audio/press.wav": "Press 1 now, please.",
    }
    assert sorted(path.name for path in (out / "audio").iterdir()) == ["digits-1.wav", "press.wav"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"no gzip", "cannot read", id="no gzip"),
        pytest.param(
            gzip.compress(b"a: one\nno name"), "core.txt.gz:2 has no name", id="a line without name"
        ),
        pytest.param(gzip.compress(b"\xff: one"), "cannot read", id="no UTF-8"),
        pytest.param(gzip.compress(b"a: one" * 50)[:-9], "cannot read", id="cut"),
    ],
)
def test_broken_transcripts_are_refused(data, says, tmp_path):
    (tmp_path / "core.txt.gz").write_bytes(data)
    with pytest.raises(BridgeError, match=says):
        prompts.read_transcripts(tmp_path / "core.txt.gz")


def test_clips_of_librivox_have_their_sentences(tmp_path):
    files = {"x/transcription": tmp_path / "transcription"}
    sentences = {f"clip-{n}": f"this is sentence {n}" for n in "abcde"}
    lines = [f"<s> {text} </s> ({name})" for name, text in sentences.items()]
    files["x/transcription"].write_text("\n".join(lines) + "\n")
    for name in sentences:
        files[f"x/{name}.wav"] = wav(tmp_path / f"{name}.wav", tone(200, RATE, 0.1), rate=RATE)
    out = tmp_path / "out"
    out.mkdir()
    librivox.convert(files, out)
    rows = rows_of(out)
    assert {row["audio"]: row["text"] for row in rows} == {
        f"audio/{name}.wav": text for name, text in sentences.items()
    }
    assert sorted(row["split"] for row in rows) == ["test"] * 5
    files["x/transcription"].write_text("no sentence\n")
    with pytest.raises(BridgeError, match="transcription:1 is no transcript"):
        librivox.convert(files, tmp_path)


def test_words_are_what_is_said():
    assert words("  Don't press 1, please... ") == ["don't", "press", "1", "please"]


def idx(array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes())


@given(n=st.integers(0, 4), rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_idx_is_read_in_its_order(n, rows, columns, tmp_path_factory):
    array = np.arange(n * rows * columns, dtype=np.uint8).reshape(n, rows, columns)
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(fashion.read_idx(path, 3), array)


GREY = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(idx(GREY)[:-6], "cannot read", id="cut gzip"),
        pytest.param(b"no gzip", "cannot read", id="no gzip"),
        pytest.param(gzip.compress(b"\0\0\x08"), "no idx file of bytes with 3 axes", id="cut head"),
        pytest.param(idx(GREY.ravel()), "no idx file of bytes with 3 axes", id="one axis"),
        pytest.param(
            gzip.compress(gzip.decompress(idx(GREY))[:-1]),
            "holds 11 values; its axes .* need 12",
            id="a byte too few",
        ),
        pytest.param(
            gzip.compress(gzip.decompress(idx(GREY)) + b"1"),
            "holds 13 values; its axes .* need 12",
            id="a byte too many",
        ),
    ],
)
def test_broken_idx_files_are_refused(data, says, tmp_path):
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(BridgeError, match=says):
        fashion.read_idx(tmp_path / "a.gz", 3)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    files = {}
    for prefix, n in (("train", 3), ("t10k", 2)):
        for kind, array in (("images-idx3", GREY[:n]), ("labels-idx1", np.arange(n))):
            path = tmp_path / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(idx(array.astype(np.uint8)))
            files[f"usr/{path.name}"] = path
    out = tmp_path / "out"
    out.mkdir()
    fashion.convert(files, out)
    monkeypatch.setattr(fashion, "dataset_folder", lambda _: out)
    return out


def test_photos_come_with_their_labels(photos):
    for split, n in (("train", 3), ("test", 2)):
        images, labels = fashion.fashion_photos(split)
        np.testing.assert_array_equal(images, GREY[:n])
        assert labels.tolist() == list(range(n))
        assert images.dtype == labels.dtype == np.uint8
    with pytest.raises(BridgeError, match="no split 'tune'; choose from train, test"):
        fashion.fashion_photos("tune")


def test_photos_without_their_labels_are_refused(photos):
    (photos / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(1, np.uint8)))
    with pytest.raises(BridgeError, match="2 images and 1 labels"):
        fashion.fashion_photos("test")
