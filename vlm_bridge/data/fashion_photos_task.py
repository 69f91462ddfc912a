"""Real product photos (Fashion-MNIST, MIT) with three forms of question each.

"what is it?", "is it a dress?" and "which is it, a dress, a bag or a coat?". In every split each
product is shown equally often, and every "is it ...?" is answered yes as often as no, so the best
guess without the photo is right in 1/10, 1/2 and 1/3 of the forms: .311 together.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlm_bridge import third_party
from vlm_bridge.data.items import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.built_folder import build_once
from vlm_bridge.runtime.files import cache_root

#: split -> (part of the data set's own division, number of photos); only `train` trains models.
FASHION_PHOTOS_SPLITS: dict[str, tuple[str, int]] = {
    "train": ("train", 10_000),
    "profile": ("train", 200),
    "tuning": ("train", 400),
    "certification": ("test", 2000),
    "test": ("test", 2000),
}
#: The answers, by label of the data set; the first tokens differ.
PRODUCTS = (
    "top",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "trainer",
    "bag",
    "boot",
)
_VERSION = 2
_SEED = 70_000

Photos = np.ndarray[Any, Any]


def fashion_photos(split: str) -> list[Item]:
    """The items of one of `FASHION_PHOTOS_SPLITS`, three for each photo, ordered by photo.

    A photo that equals an earlier one byte for byte is left out, so no photo is in two splits. On
    first use the photos are written (product on white, 28 x 28) into the cache (`$SKIPIT_CACHE`).

    Raises:
        BridgeError: unknown split, the data set is not fetched, or the cache cannot be written.

    Example:
        >>> fashion_photos("test")[0].question  # doctest: +SKIP
        'what is it?'
    """
    if split not in FASHION_PHOTOS_SPLITS:
        names = ", ".join(FASHION_PHOTOS_SPLITS)
        raise BridgeError(f"fashion-photos has no split '{split}'; it has {names}")
    folder = cache_root() / f"fashion-photos-{_VERSION}" / split
    build_once(folder, partial(_write_photos, split))
    chosen = json.loads((folder / "photos.json").read_text(encoding="utf-8"))
    part, _ = FASHION_PHOTOS_SPLITS[split]
    return [
        Item(folder / f"{number}.png", question, answer, f"{part}/{number}")
        for (number, product), asked in zip(chosen, _asked([p for _, p in chosen]), strict=True)
        for question, answer in ask(product, asked, random.Random(f"{_SEED}/{part}/{number}"))
    ]


def ask(product: int, asked: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    """The three questions about a photo, with their answers; `asked` is that of the second.

    Example:
        >>> for question, answer in ask(3, 8, random.Random(0)):
        ...     print(question, answer)
        what is it? dress
        is it a bag? no
        which is it, a boot, a trainer or a dress? dress
    """
    yield "what is it?", PRODUCTS[product]
    yield f"is it {_a(asked)}?", "yes" if asked == product else "no"
    others = [other for other in range(len(PRODUCTS)) if other != product]
    three = [product, *draw.sample(others, 2)]
    draw.shuffle(three)
    first, second, third = map(_a, three)
    yield f"which is it, {first}, {second} or {third}?", PRODUCTS[product]


def _a(product: int) -> str:
    name = PRODUCTS[product]
    return name if name.endswith("s") and name != "dress" else f"a {name}"


def _asked(products: list[int]) -> list[int]:
    """The product that "is it ...?" names for each photo: half the time the true one.

    The untrue ones go round, so that every product is named equally often with either answer.
    """
    seen = [0] * len(PRODUCTS)
    named = []
    for product in products:
        turn, untrue = divmod(seen[product], 2)
        seen[product] += 1
        step = 1 + turn % (len(PRODUCTS) - 1) if untrue else 0
        named.append((product + step) % len(PRODUCTS))
    return named


def _write_photos(split: str, folder: Path) -> None:
    """Write the photos of a split into `folder`, with the list of (number, label)."""
    part, _ = FASHION_PHOTOS_SPLITS[split]
    photos, labels = third_party.fashion_photos(part)
    chosen = [(n, int(labels[n])) for n in _numbers(split, photos, labels)]
    for number, _ in chosen:
        Image.fromarray(255 - photos[number]).save(folder / f"{number}.png")
    (folder / "photos.json").write_text(json.dumps(chosen) + "\n", encoding="utf-8")


def _numbers(split: str, photos: Photos, labels: Photos) -> list[int]:
    """The photos of a split, each product equally often, in a seeded order."""
    part, count = FASHION_PHOTOS_SPLITS[split]
    seen = (
        set()
        if part == "train"
        else {photo.tobytes() for photo in third_party.fashion_photos("train")[0]}
    )
    by_product: list[list[int]] = [[] for _ in PRODUCTS]
    for number, photo in enumerate(photos):
        content = photo.tobytes()
        if content not in seen:
            seen.add(content)
            by_product[int(labels[number])].append(number)
    each, start = count // len(PRODUCTS), 0
    for name, (other, size) in FASHION_PHOTOS_SPLITS.items():
        if name == split:
            break
        start += size // len(PRODUCTS) if other == part else 0
    draw = random.Random(f"{_SEED}/{part}")
    orders = [draw.sample(numbers, len(numbers)) for numbers in by_product]
    mixed = [number for order in orders for number in order[start : start + each]]
    return random.Random(f"{_SEED}/{split}").sample(mixed, len(mixed))
