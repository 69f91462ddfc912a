"""Models by name with the images they are benchmarked on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import accumulate

from theory.systems import toy_vlm
from vlm_bridge.data import TASKS, Item, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.rule_benchmark.settings import Splits
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.model.vlm import VLM, load


@dataclass(frozen=True)
class Sizes:
    """How many images, one question each.

    Attributes:
        images: to certify, and as many untouched ones.
        tuning: choose paths.
        profiling: a rule may look at them.

    Raises:
        BridgeError: fewer than one.
    """

    images: int = 200
    tuning: int = 100
    profiling: int = 40

    def __post_init__(self) -> None:
        for name in ("images", "tuning", "profiling"):
            if getattr(self, name) < 1:
                raise BridgeError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def by_split(self) -> dict[str, int]:
        """Split of a task set -> images, in the order of `Splits`."""
        return {
            "profile": self.profiling,
            "tuning": self.tuning,
            "certification": self.images,
            "test": self.images,
        }


@dataclass(frozen=True)
class Case:
    """A model and the questions it is asked.

    Attributes:
        vlm: the model.
        splits: disjoint by image.
        training: questions with answers that say what can be known without the image.
        data: name of the task set.
    """

    vlm: VLM
    splits: Splits
    training: tuple[Item, ...]
    data: str


def load_case(name: str, data: str, sizes: Sizes) -> Case:
    """A model and its images.

    Args:
        name: as for `load`; or "toy", whose safe layers are planted, with questions of its own
            (it has no training images: those that rules see and that tune stand in for them).
        data: one of `TASKS`.
        sizes: how many images of each split.

    Raises:
        BridgeError: an unknown model or task set.
    """
    if data not in TASKS:
        raise BridgeError(f"unknown task set '{data}'; choose from {', '.join(TASKS)}")
    wanted = sizes.by_split
    if name != "toy":
        vlm = load(name)
        parts = [limit_per_image(TASKS[data](split), 1)[:n] for split, n in wanted.items()]
        return Case(vlm, Splits(*map(tuple, parts)), tuple(TASKS[data]("train")), data)
    planted = toy_vlm()
    folder = tempfile.mkdtemp(prefix="toy-")
    items = toy_items(planted, folder, images=sum(wanted.values()), questions_per_image=1)
    ends = list(accumulate(wanted.values()))
    parts = [items[end - n : end] for end, n in zip(ends, wanted.values(), strict=True)]
    splits = Splits(*map(tuple, parts))
    return Case(toy_llava(planted), splits, (*splits.profiling, *splits.tuning), "toy")
