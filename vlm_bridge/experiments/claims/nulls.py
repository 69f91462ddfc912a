"""The nulls of a model: a copy with random weights, and the model on shuffled images.

*Random weights*: the same architecture, untrained. What also appears here comes from the
architecture. *Shuffled images*: every question is asked about another image. What also appears here
does not depend on the content of the image.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from vlm_bridge.data import Item, about_other
from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.experiments.claims.protocol import RANDOM_WEIGHTS, SHUFFLED
from vlm_bridge.experiments.claims.settings import ClaimsSettings
from vlm_bridge.experiments.claims.subject import Subject
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import random_copy


def nulls(
    vlm: VLM,
    profiling: Sequence[Item],
    test: Sequence[Item],
    folder: Path,
    settings: ClaimsSettings,
) -> list[Subject]:
    """Both nulls, with the first `null_images` test questions; no shuffled images of texts.

    None if `null_images` is 0.
    """
    if not settings.null_images:
        return []
    few, seed = test[: settings.null_images], settings.seed
    copy = random_copy(vlm, seed=seed)
    found = [Subject(RANDOM_WEIGHTS, copy, profiling, few, folder, settings)]
    if all(item.files for item in (*profiling, *few)):
        read, asked = (shuffled_images(part, seed=seed) for part in (profiling, few))
        found.append(Subject(SHUFFLED, vlm, read, asked, folder, settings))
    return found


def shuffled_images(items: Sequence[Item], *, seed: int = 0) -> list[Item]:
    """Every question with another image or recording; questions of one image stay together.

    Example:
        >>> from pathlib import Path
        >>> items = [Item(Path(name), "?", "yes") for name in ("a.png", "b.png")]
        >>> [item.image.name for item in shuffled_images(items)]
        ['b.png', 'a.png']
    """
    of_cluster = {item.cluster: item for item in items}
    order = list(of_cluster)
    if len(order) < 2:
        raise BridgeError(f"images are shuffled among at least two, got {len(order)}")
    if texts := [item for item in items if not item.files]:
        raise BridgeError(f"the question {shown(texts[0].question)} has no image to shuffle")
    random.Random(seed).shuffle(order)
    partner = dict(zip(order, [*order[1:], order[0]], strict=True))
    others = [of_cluster[partner[item.cluster]] for item in items]
    return [about_other(item, other) for item, other in zip(items, others, strict=True)]
