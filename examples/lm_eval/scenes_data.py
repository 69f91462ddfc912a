"""The data of the tasks beside this file: scenes drawn on this machine, one question each."""

from __future__ import annotations

from typing import Any

import datasets

from vlm_bridge.data import limit_per_image, open_image, scenes


def dataset(n_images: int = 40, **_: Any) -> dict[str, datasets.Dataset]:
    """The first test scenes, with the answers among which multiple choice chooses."""
    items = limit_per_image(scenes("test"), 1)[:n_images]
    choices = sorted({item.answer for item in items if item.answer is not None})
    rows = [
        {
            "image": open_image(item.image),
            "question": item.question,
            "answer": item.answer,
            "choices": choices,
        }
        for item in items
    ]
    columns = {"question": datasets.Value("string"), "answer": datasets.Value("string")}
    columns |= {"image": datasets.Image(), "choices": datasets.List(datasets.Value("string"))}
    return {"test": datasets.Dataset.from_list(rows, features=datasets.Features(columns))}
