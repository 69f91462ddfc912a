"""Independent units of items: which belong together, their hashes, and choices among them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_bridge.data.content import file_hash
from vlm_bridge.data.items import KINDS, Item, contents_of, short_hash
from vlm_bridge.data.picture import ImageRef
from vlm_bridge.data.turns import Turn
from vlm_bridge.errors import BridgeError, shown


def check_one_cluster_per_image(items: Sequence[Item]) -> None:
    """Raise a `BridgeError` if a picture or recording, or a copy of it, is in two clusters.

    Two units that share one are not independent; the same holds of equal texts without either.
    """
    check_units(items, [f"item {place}" for place in range(len(items))])


def check_units(items: Sequence[Item], names: Sequence[str]) -> None:
    """Refuse what is in two clusters; `names` say where the items are."""
    first: dict[str, tuple[int, object]] = {}
    hashes: dict[Path, str] = {}
    for place, item in enumerate(items):
        for kind, what, content in contents_of(item, hashes):
            before, spelt = first.setdefault(content, (place, what))
            if (other := items[before]).cluster != item.cluster:
                pair = (shown(it) if kind == "text" else str(it) for it in (spelt, what))
                several = max(len(item.images), len(other.images)) > 1
                how = ", or join both with vlm_bridge.data.link_units(items)" if several else ""
                raise BridgeError(
                    f"{names[before]} and {names[place]} are about one {KINDS[kind][1]} "
                    f"({', '.join(pair)}) in two clusters ({shown(other.cluster)}, "
                    f"{shown(item.cluster)}); give it one cluster{how}"
                )


def link_units(items: Iterable[Item]) -> list[Item]:
    """The items with one cluster for all that share an image, directly or through others.

    Items that share an image or recording are not independent, so the unit of items about several
    images is a connected component: two items are linked if they share a content or a cluster. A
    component has the smallest of the default clusters in it as its name. A cluster that is the
    start of no SHA-256 of what the items are about was declared: it stays and links nothing. So
    join all items before you choose among them: the name of a component may come from an item that
    is not chosen.

    Example:
        >>> made = [Item.of(*map(Path, pair), "which?") for pair in ("ab", "bc", "cd", "xy")]
        >>> [item.cluster for item in link_units(made)]
        ['a', 'a', 'a', 'x']
    """
    listed = list(items)
    hashes: dict[Path, str] = {}
    contents = [{short_hash(it) for _, _, it in contents_of(item, hashes)} for item in listed]
    every = set[str]().union(*contents)
    names: list[set[str]] = [  # of each item that declares no cluster, what it is linked by
        {item.cluster, *own} if item.cluster in every else set()
        for item, own in zip(listed, contents, strict=True)
    ]
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = name = root[root[name]]
        return name

    for linked in names:
        ends = sorted(map(find, linked))
        root.update(dict.fromkeys(ends[1:], ends[0]) if ends else {})
    best: dict[str, str] = {}
    for item, linked in zip(listed, names, strict=True):
        if linked:
            end = find(item.cluster)
            best[end] = min(best.get(end, item.cluster), item.cluster)
    return [
        replace(item, cluster=best[find(item.cluster)]) if linked else item
        for item, linked in zip(listed, names, strict=True)
    ]


def unit_word(items: Iterable[Item], count: int = 2) -> str:
    """What the units of some items are, in a sentence that counts them.

    A unit of several files, such as all recordings of one sentence or two images that a question
    compares, is called that.

    Example:
        >>> unit_word([Item(None, "why?")]), unit_word([Item(Path("a.png"), "why?")], 1)
        ('texts', 'image')
    """
    items = list(items)
    kinds = {item.kinds[0] for item in items}
    files = {item.files[0] for item in items if item.files}
    word = "units"
    several = any(len(item.images) > 1 for item in items)
    if not several and len(kinds) == 1 and len(files) <= len({item.cluster for item in items}):
        word = KINDS[kinds.pop()][2]
    return word.removesuffix("s") if count == 1 else word


def by_image(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each unit, in their order."""
    clusters: dict[str, list[Item]] = {}
    for item in items:
        clusters.setdefault(item.cluster, []).append(item)
    return list(clusters.values())


def image_hashes(items: Iterable[Item]) -> list[str]:
    """Short SHA-256 of all that the items are about, sorted; two sets can be compared by it.

    Of the bytes of every distinct image and recording, and the `text_hash` of items without either.
    """
    hashes: dict[Path, str] = {}
    contents = (content for item in items for _, _, content in _existing(item, hashes))
    return sorted({content[:16] for content in contents})


def items_hash(items: Iterable[Item]) -> str:
    """SHA-256 of the bytes of images and recording, texts, answer and cluster of every item.

    In order, and without paths.
    """
    digest = hashlib.sha256()
    hashes: dict[Path, str] = {}
    for item in items:
        found = {what: content for _, what, content in _existing(item, hashes)}
        image = None if item.image is None else found[item.image]
        fields: list[Any] = [image, item.question, item.answer, item.cluster]
        if item.audio is not None:
            fields.append(found[item.audio])
        if item.parts or item.turns:
            fields.append([_hashed(turn, found) for turn in item.dialogue])
        if item.answers:
            fields.append({"answers": item.answers})
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _hashed(turn: Turn, contents: dict[ImageRef | str, str]) -> list[Any]:
    """Role, texts and hashes of images of a turn."""
    parts = (part if isinstance(part, str) else {"image": contents[part]} for part in turn.parts)
    return [turn.role, *parts]


def _existing(item: Item, hashes: dict[Path, str]) -> list[tuple[str, ImageRef | str, str]]:
    """`contents_of`; a file that is not there is a `BridgeError`."""
    for image in item.images:
        if isinstance(image, Path) and image not in hashes:
            hashes[image] = file_hash(image, KINDS["image"][0])
    if item.audio is not None and item.audio not in hashes:
        hashes[item.audio] = file_hash(item.audio, KINDS["audio"][0])
    return contents_of(item, hashes)


def first_units(items: Sequence[Item], count: int) -> list[Item]:
    """The items about the first `count` units, in their order.

    Example:
        >>> [item.question for item in first_units([Item(None, "a"), Item(None, "b")], 1)]
        ['a']
    """
    first = set(list(dict.fromkeys(item.cluster for item in items))[:count])
    return [item for item in items if item.cluster in first]


def limit_per_image(items: Sequence[Item], count: int, *, seed: int = 0) -> list[Item]:
    """At most `count` questions about every image, in the order of `items`.

    They are chosen by a hash of seed, cluster and question, independently of other items.

    Raises:
        BridgeError: `count` is below 1.
    """
    if count < 1:
        raise BridgeError(f"questions per image must be at least 1, got {count}")

    def rank(item: Item) -> str:
        return hashlib.sha256(f"{seed}\0{item.cluster}\0{item.question}".encode()).hexdigest()

    chosen = {id(i) for cluster in by_image(items) for i in sorted(cluster, key=rank)[:count]}
    return [item for item in items if id(item) in chosen]
