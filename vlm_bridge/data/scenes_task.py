"""Generated scenes of several objects, with questions about counts, positions and attributes.

Two to six objects of four shapes and six colours lie on a grey ground; some carry a dot of
another colour. Four of the 24 pairs of colour and shape (`HELD_OUT`) never occur in training.
"""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from vlm_bridge.data.items import Item
from vlm_bridge.data.questions import Thing, ask
from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.built_folder import build_once
from vlm_bridge.runtime.files import cache_root

#: split -> number of scenes, which differ between splits
SCENES_SPLITS = {
    "train": 8000,
    "profile": 200,
    "tuning": 400,
    "certification": 700,
    "test": 300,
    "confirmation": 960,  # for docs/protocol.md alone
}
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 88, 200),
    "yellow": (240, 200, 20),
    "purple": (140, 60, 170),
    "black": (20, 20, 20),
}
#: Pairs of colour and shape that are in no training scene.
HELD_OUT = {("red", "cross"), ("green", "triangle"), ("blue", "square"), ("yellow", "circle")}
#: Image side in pixels, and cells of the grid of objects along a side.
SIDE, CELLS = 64, 4
_VERSION = 2


def scene(split: str, number: int) -> tuple[Thing, ...]:
    """The objects of a scene, in drawing order, from the split and the number alone.

    Example:
        >>> scene("test", 0) == scene("test", 0), scene("test", 0) == scene("test", 1)
        (True, False)
    """
    draw = random.Random(f"scenes/{_VERSION}/{split}/{number}")
    pairs = [(c, s) for c in COLOURS for s in SHAPES if split != "train" or (c, s) not in HELD_OUT]
    cell = SIDE // CELLS
    things = []
    for place in draw.sample(range(CELLS * CELLS), draw.randint(2, 6)):
        colour, shape = draw.choice(pairs)
        dot = draw.choice([c for c in COLOURS if c != colour]) if draw.random() < 0.4 else None
        y, x = (cell * at + cell // 2 + draw.randint(-1, 1) for at in divmod(place, CELLS))
        things.append(Thing(shape, colour, x, y, draw.randint(5, 6), dot))
    return tuple(things)


def paint(things: tuple[Thing, ...], ground: int) -> Image.Image:
    """The image of a scene on a grey ground of brightness 0 to 255."""
    image = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
    pen = ImageDraw.Draw(image)
    for thing in things:
        x, y, r, colour = thing.x, thing.y, thing.radius, COLOURS[thing.colour]
        if thing.shape == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        elif thing.shape == "square":
            pen.rectangle((x - r + 1, y - r + 1, x + r - 1, y + r - 1), fill=colour)
        elif thing.shape == "triangle":
            pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
        else:
            pen.rectangle((x - r, y - 2, x + r, y + 2), fill=colour)
            pen.rectangle((x - 2, y - r, x + 2, y + r), fill=colour)
        if thing.dot is not None:
            pen.rectangle((x - 1, y - 1, x + 1, y + 1), fill=COLOURS[thing.dot])
    return image


def scenes(split: str) -> list[Item]:
    """The items of one of `SCENES_SPLITS`, at most eight for each scene, ordered by scene.

    On first use the images are drawn (train: about half a minute) into the cache folder
    (`$SKIPIT_CACHE`).

    Raises:
        BridgeError: unknown split, or the cache cannot be written.

    Example:
        >>> len({item.cluster for item in scenes("test")})
        300
    """
    if split not in SCENES_SPLITS:
        raise BridgeError(f"scenes has no split '{split}'; it has {', '.join(SCENES_SPLITS)}")
    folder = drawn(split)
    items = []
    for number in range(SCENES_SPLITS[split]):
        draw = random.Random(f"questions/{_VERSION}/{split}/{number}")
        for question, answer in ask(scene(split, number), draw):
            items.append(Item(folder / f"{number}.png", question, answer, f"{split}/{number}"))
    return items


def drawn(split: str) -> Path:
    """The folder of the images of a split, `NUMBER.png`, which are drawn on first use."""
    folder = cache_root() / f"scenes-{_VERSION}-hashed" / split
    build_once(folder, partial(_draw_all, split))
    return folder


def shows_held_out(item: Item) -> bool:
    """Whether an item's scene has a pair of colour and shape that is not in training."""
    split, _, number = item.cluster.partition("/")
    return any((thing.colour, thing.shape) in HELD_OUT for thing in scene(split, int(number)))


def _draw_all(split: str, folder: Path) -> None:
    """Draw the images of a split into `folder`."""
    for number in range(SCENES_SPLITS[split]):
        ground = random.Random(f"ground/{_VERSION}/{split}/{number}").randint(170, 235)
        paint(scene(split, number), ground).save(folder / f"{number}.png")
    about = {"split": split, "version": _VERSION, "scenes": SCENES_SPLITS[split]}
    (folder / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
