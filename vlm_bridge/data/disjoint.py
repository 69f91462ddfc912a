"""Whether two sets of questions are independent: identities of contents and clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from vlm_bridge.data.items import Item
from vlm_bridge.data.units import image_hashes, unit_word
from vlm_bridge.errors import BridgeError, shown


def image_ids(items: Iterable[Item]) -> tuple[str, ...]:
    """Identities of what some questions are about, and of their clusters, sorted.

    The identity of an image or recording is the start of the SHA-256 of its file, that of a text
    without either the start of its `text_hash`, that of a cluster the start of the SHA-256 of its
    name. Two sets that share an identity are not independent.

    Example:
        >>> image_ids([])
        ()
    """
    items = list(items)
    return tuple(sorted({*image_hashes(items), *(cluster_id(item.cluster) for item in items)}))


def cluster_id(cluster: str) -> str:
    """The identity of a cluster, 16 hexadecimal digits.

    A name of 16 such digits is its own identity: that of a cluster named by its content is then
    that of the content, and a declared one differs from every other name.

    Example:
        >>> cluster_id("2024010100000001"), cluster_id("film") != cluster_id("shop")
        ('2024010100000001', True)
    """
    if len(cluster) == 16 and not set(cluster) - set("0123456789abcdef"):
        return cluster
    return hashlib.sha256(f"cluster\0{cluster}".encode()).hexdigest()[:16]


def overlap(items: Iterable[Item], ids: Collection[str]) -> list[str]:
    """The clusters of `items` of which a content, or the cluster itself, is in `ids`, sorted."""
    known = set(ids)
    by_cluster: dict[str, list[Item]] = {}
    for item in items:
        by_cluster.setdefault(item.cluster, []).append(item)
    return sorted(name for name, own in by_cluster.items() if known.intersection(image_ids(own)))


def check_disjoint(items: Iterable[Item], others: Iterable[Item], message: str) -> None:
    """Raise a `BridgeError` if two sets of questions share an image, recording, text or cluster.

    `message` follows the number of shared units, as in "are in both splits".
    """
    items = list(items)
    if shared := overlap(items, image_ids(others)):
        raise BridgeError(
            f"{len(shared)} {unit_word(items)} {message} (as cluster {shown(shared[0])})"
        )
