"""Recordings with transcripts as a task set."""

from __future__ import annotations

import json

import pytest

from vlm_bridge.data import TASKS
from vlm_bridge.data.recordings_task import SPLITS
from vlm_bridge.errors import BridgeError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = [
        {"audio": f"audio/{n}.wav", "text": f"Say {n}.", "cluster": f"say {n}", "split": split}
        for n, split in enumerate([*SPLITS["spoken-prompts"], "test"])
    ]
    (tmp_path / "audio").mkdir()
    for row in rows:
        (tmp_path / row["audio"]).write_bytes(row["text"].encode())
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    monkeypatch.setattr("vlm_bridge.third_party.dataset_folder", lambda name: tmp_path)
    return tmp_path


def test_an_item_is_a_recording_with_its_transcript(folder):
    first, last = TASKS["spoken-prompts"]("test")
    assert (first.image, first.audio, first.answer) == (None, folder / "audio/0.wav", "Say 0.")
    assert (first.cluster, last.cluster) == ("say 0", "say 5")


def test_every_recording_lies_in_one_split(folder):
    task = TASKS["spoken-prompts"]
    found = [item.audio for split in SPLITS["spoken-prompts"] for item in task(split)]
    assert sorted(found) == sorted((folder / "audio").iterdir())


@pytest.mark.parametrize(("name", "there"), [("librivox", "test"), ("spoken-prompts", "test, cer")])
def test_another_split_is_refused(name, there):
    with pytest.raises(BridgeError, match=f"{name} has no split 'dev'; it has {there}"):
        TASKS[name]("dev")
