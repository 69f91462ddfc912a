"""The four sets of questions of a whole run, which share no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from vlm_bridge.data import Item, check_disjoint, unit_word
from vlm_bridge.data.write_jsonl import write_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import check_images
from vlm_bridge.experiments.whole_run.settings import SPLITS


@dataclass(frozen=True)
class RunSplits:
    """Questions by use; no image (recording, text) is in two of them.

    Attributes:
        profiling: profile and rules read them.
        tuning: they choose the plans that are tested.
        certification: they certify a plan.
        test: the plan is reported on them.

    Raises:
        BridgeError: a split without two images, or an image in two splits.
    """

    profiling: tuple[Item, ...]
    tuning: tuple[Item, ...]
    certification: tuple[Item, ...]
    test: tuple[Item, ...]

    def __post_init__(self) -> None:
        for name, items in self.by_name.items():
            if len({item.cluster for item in items}) < 2:
                raise BridgeError(
                    f"{name} has {len(items)} questions about {len({i.cluster for i in items})} "
                    f"{unit_word(items)}, and needs two; give more data, or larger shares"
                )
        for (one, first), (other, second) in combinations(self.by_name.items(), 2):
            check_disjoint(first, second, f"are in {one} and in {other}; give each its own")
        check_images(self.test)

    @property
    def by_name(self) -> dict[str, tuple[Item, ...]]:
        """Name -> questions, in the order of use."""
        return {name: getattr(self, name) for name in SPLITS}

    @classmethod
    def deal(cls, items: Sequence[Item], shares: Sequence[float], *, seed: int = 0) -> RunSplits:
        """Deal the images of one data set, in random order, by shares.

        Questions of an image stay together. Each split but the last gets its share rounded down.

        Raises:
            BridgeError: too few images.

        Example:
            >>> items = [Item(Path(f"{i}.png"), "is it red?") for i in range(20)]
            >>> splits = RunSplits.deal(items, (0.1, 0.2, 0.4, 0.3))
            >>> [len(part) for part in splits.by_name.values()]
            [2, 4, 8, 6]
        """
        units = list(dict.fromkeys(item.cluster for item in items))
        order = np.random.default_rng(seed).permutation(len(units))
        ends = [int(share * len(units) + 1e-9) for share in np.cumsum(shares)[:-1]]
        parts = np.split(order, ends)
        split_of = {units[place]: split for split, part in enumerate(parts) for place in part}
        dealt: list[list[Item]] = [[] for _ in SPLITS]
        for item in items:
            dealt[split_of[item.cluster]].append(item)
        return cls(*map(tuple, dealt))

    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Split -> number of images and of questions."""
        return {
            name: (len({item.cluster for item in items}), len(items))
            for name, items in self.by_name.items()
        }

    def write(self, folder: Path) -> None:
        """Write each split into `folder`, for the single commands."""
        for name, items in self.by_name.items():
            write_jsonl(folder / f"{name}.jsonl", items)
