"""Items with images of noise, for costs, which depend only on the size of the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vlm_bridge.data.items import Item


def noise_items(folder: Path, count: int, *, side: int = 336, seed: int = 0) -> list[Item]:
    """`count` items with images of uniform noise, `side` x `side` pixels, written to `folder`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [item.open().size for item in noise_items(Path(folder), 2, side=8)]
        [(8, 8), (8, 8)]
    """
    draw = np.random.default_rng(seed)
    items = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        items.append(Item(path, "What is in the image?"))
    return items
