"""The easy-VQA questions (package `easy-vqa`, MIT), split by image into five parts."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
from pathlib import Path

from vlm_bridge.data.items import Item
from vlm_bridge.errors import BridgeError

INSTALL = "pip install --no-deps easy-vqa==1.0"

#: split -> (part of the package's own division, number of images); only `train` trains models.
EASY_VQA_SPLITS: dict[str, tuple[str, int]] = {
    "train": ("train", 3400),
    "profile": ("train", 200),
    "tuning": ("train", 400),
    "certification": ("test", 700),
    "test": ("test", 300),
}

_SPLIT_SEED = 2509


def easy_vqa_folder() -> Path:
    """The data folder of the installed package, which is not imported."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise BridgeError(f"the easy-VQA questions are not installed; run: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "data"


def easy_vqa(split: str) -> list[Item]:
    """The items of one of `EASY_VQA_SPLITS`, ordered by image.

    A seeded permutation divides the package's 4,000 training and 1,000 test images.

    Raises:
        BridgeError: unknown split, or the package is absent.

    Example:
        >>> len({item.cluster for item in easy_vqa("certification")})
        700
    """
    if split not in EASY_VQA_SPLITS:
        raise BridgeError(f"easy-vqa has no split '{split}'; it has {', '.join(EASY_VQA_SPLITS)}")
    part, _ = EASY_VQA_SPLITS[split]
    folder = easy_vqa_folder() / part
    rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    chosen = _images_of(split, sorted({int(image) for _, _, image in rows}))
    return [
        Item(folder / "images" / f"{image}.png", question, answer, f"{part}/{image}")
        for question, answer, image in sorted(rows, key=lambda row: row[2])
        if image in chosen
    ]


def _images_of(split: str, images: list[int]) -> set[int]:
    part, count = EASY_VQA_SPLITS[split]
    order = random.Random(_SPLIT_SEED).sample(images, len(images))
    before = itertools.takewhile(lambda name: name != split, EASY_VQA_SPLITS)
    start = sum(EASY_VQA_SPLITS[name][1] for name in before if EASY_VQA_SPLITS[name][0] == part)
    return set(order[start : start + count])
