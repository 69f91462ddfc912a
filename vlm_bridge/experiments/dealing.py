"""Deal the images of a task set, a folder or one file to the splits of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from vlm_bridge.data import SPLITS as PARTS
from vlm_bridge.data import TASKS, Item, check_disjoint, first_units, read_jsonl, unit_word
from vlm_bridge.errors import BridgeError, shown

#: Names of the splits, in order.
SPLITS = ("profiling", "tuning", "certification", "test")
#: Split -> split of a task set, and file in a folder, that it comes from.
SOURCES = dict(zip(SPLITS, ("profile", "tuning", "certification", "test"), strict=True))
TRAIN = "train"
#: Share of the images of one file that each split gets, unless its size is given.
SHARES = dict(zip(SPLITS, (0.1, 0.2, 0.4, 0.3), strict=True))


@dataclass(frozen=True)
class Place:
    """Where a split begins: at the image `first` of the part `name` of the data."""

    name: str
    first: int = 0


def read_places(words: Sequence[str]) -> dict[str, Place]:
    """Where splits begin, from words such as `test=test:400`.

    Raises:
        BridgeError: another form, or no split of that name.

    Example:
        >>> read_places(["tuning=certification:340"])
        {'tuning': Place(name='certification', first=340)}
    """
    found = {}
    for word in words:
        split, _, place = word.partition("=")
        name, _, first = place.partition(":")
        if split not in SPLITS or not name or not (first or "0").isdigit():
            raise BridgeError(
                f"--at takes SPLIT=PART:FIRST with SPLIT one of {', '.join(SPLITS)}, as "
                f"test=test:400; got {shown(word)}"
            )
        found[split] = Place(name, int(first or 0))
    return found


@dataclass(frozen=True)
class Source:
    """Where questions come from: a task set (`TASKS`), a folder of JSONL files, or one JSONL file.

    A folder holds `profile.jsonl`, `tuning.jsonl`, `certification.jsonl`, `test.jsonl` and, for the
    blind baseline, `train.jsonl`.

    Attributes:
        name: of the task set, folder or file.
        images: folder of the images and recordings; None: the folder of their file.

    Raises:
        BridgeError: there is no such data.
    """

    name: str
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in TASKS and not self._path.is_dir() and not self._path.is_file():
            raise BridgeError(
                f"no data {shown(self.name)}: name a JSONL file, a folder of them, or one of "
                f"{', '.join(TASKS)}"
            )

    @property
    def _path(self) -> Path:
        return Path(self.name)

    @property
    def is_one_file(self) -> bool:
        """Whether all splits are dealt from one file."""
        return self.name not in TASKS and not self._path.is_dir()

    @property
    def has_training(self) -> bool:
        """Whether there is a part for the blind baseline."""
        return TRAIN in PARTS.get(self.name, ()) or (self._path / f"{TRAIN}.jsonl").is_file()

    def part(self, name: str) -> list[Item]:
        """The questions of a part; "" is the whole file."""
        if self.name in TASKS:
            return TASKS[self.name](name)
        if self.is_one_file:
            if name:
                raise BridgeError(
                    f"--at names a part of a task set or folder, {self.name} is a file"
                )
            return read_jsonl(self._path, images=self.images)
        return read_jsonl(self._path / f"{name}.jsonl", images=self.images)


def deal(
    source: Source,
    sizes: Mapping[str, int | None],
    places: Mapping[str, Place],
    *,
    seed: int = 0,
) -> dict[str, list[Item]]:
    """Split -> questions; no image is in two splits.

    The images of one file are dealt in a random order, so that a sorted file is no trap; the parts
    of a task set or folder are taken in their order.

    Args:
        source: where the questions come from.
        sizes: split -> number of images. None: of a part all from its place on; of one file the
            share of `SHARES`, rounded down, at least one.
        places: where splits begin; for a task set or folder.
        seed: of the random order.

    Raises:
        BridgeError: fewer images than are wanted, places in one file, or an image in two splits.
    """
    if not source.is_one_file:
        dealt = deal_parts(source, sizes, places)
    else:
        for place in places.values():
            source.part(place.name)  # refuses it: a file has no parts
        whole = source.part("")
        units = sorted({item.cluster for item in whole})
        order = np.random.default_rng(seed).permutation(len(units)).tolist()
        rank = {units[number]: place for place, number in enumerate(order)}
        counts = {
            split: max(1, int(SHARES[split] * len(units))) if size is None else size
            for split, size in sizes.items()
        }
        shuffled = sorted(whole, key=lambda item: rank[item.cluster])
        dealt = deal_in_order(shuffled, counts, source.name)
    for one, other in combinations(dealt, 2):
        check_disjoint(
            dealt[one], dealt[other], f"are in {one} and in {other}; let one begin elsewhere"
        )
    return dealt


def deal_parts(
    source: Source, sizes: Mapping[str, int | None], places: Mapping[str, Place]
) -> dict[str, list[Item]]:
    """Split -> questions, each from its place in a part of a task set or folder.

    Args:
        source: no single file.
        sizes: split -> number of images; None: all from its place on.
        places: where splits begin (default: at the first image of `SOURCES`).

    Raises:
        BridgeError: a part has fewer images.
    """
    parts: dict[str, list[Item]] = {}
    dealt = {}
    for split, size in sizes.items():
        place = places.get(split, Place(SOURCES[split]))
        if place.name not in parts:
            parts[place.name] = source.part(place.name)
        where = f"{source.name}:{place.name}"
        dealt[split] = units_from(parts[place.name], place.first, size, where)
    return dealt


def deal_in_order(
    items: Sequence[Item], sizes: Mapping[str, int], name: str
) -> dict[str, list[Item]]:
    """Split -> questions; the images of one file are dealt to the splits in their order."""
    first, dealt = 0, {}
    for split, size in sizes.items():
        dealt[split] = units_from(items, first, size, f"{name}, for {split}")
        first += size
    return dealt


def units_from(items: Sequence[Item], first: int, size: int | None, where: str) -> list[Item]:
    """The questions about `size` images from the image `first` on; None: about all of them.

    Raises:
        BridgeError: there are fewer; `where` names the data.
    """
    before = {item.cluster for item in first_units(items, first)}
    left = [item for item in items if item.cluster not in before]
    chosen = left if size is None else first_units(left, size)
    wanted = 1 if size is None else size
    if (n := len({item.cluster for item in chosen})) < wanted:
        raise BridgeError(
            f"{where} has {n} {unit_word(items)} from number {first} on, and {wanted} are wanted; "
            "add some, begin elsewhere (--at, as test=PART:FIRST), or lower the size before the "
            "run, never after it"
        )
    return chosen
