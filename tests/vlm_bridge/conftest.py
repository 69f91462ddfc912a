"""Items about small pictures on disk, for every test that runs a model on data."""

from __future__ import annotations

import json

import pytest

from tests.vlm_bridge.tiny import asked_pictures, picture, processor, tiny_llava
from vlm_bridge.data import Item, read_jsonl

QUESTIONS = ["is there a circle ?", "what is red ?", "is the shape blue ? not red"]


@pytest.fixture
def jsonl(tmp_path):
    """A JSONL file of 5 images with up to 3 questions each, answers included."""
    rows = []
    for image in range(5):
        picture(image).save(tmp_path / f"{image}.png")
        for number, question in enumerate(QUESTIONS[: 1 + image % 3]):
            answer = ["yes", "no", "circle"][(image + number) % 3]
            rows.append({"image": f"{image}.png", "question": question, "answer": answer})
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.fixture
def items(jsonl) -> list[Item]:
    return read_jsonl(jsonl)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny model as `save_pretrained` leaves it."""
    path = tmp_path_factory.mktemp("model")
    vlm = tiny_llava()
    vlm.model.save_pretrained(path)
    processor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Item]:
    """12 images with one question each, of three lengths, so that batches are padded."""
    return asked_pictures(tmp_path_factory.mktemp("pictures"), 12)
