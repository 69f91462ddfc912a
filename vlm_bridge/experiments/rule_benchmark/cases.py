"""Loading of a model together with the images of its benchmark."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

from theory.systems import toy_vlm
from vlm_bridge.data import TASKS, Item, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.rule_benchmark.settings import Sizes, Splits
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.model.vlm import VLM, load


@dataclass(frozen=True)
class Case:
    """A model, its questions on a task set, and the training questions of the blind baselines."""

    vlm: VLM
    splits: Splits
    training: tuple[Item, ...]
    data: str


def load_case(name: str, data: str, sizes: Sizes) -> Case:
    """Load a model and its images.

    Args:
        name: as for `load`; or "toy", a model with planted safe layers and its own questions (its
            profiling and tuning questions also serve as training split).
        data: one of `TASKS`.
        sizes: number of images of each split.

    Raises:
        BridgeError: an unknown model or task set.
    """
    if data not in TASKS:
        raise BridgeError(f"unknown task set '{data}'; choose from {', '.join(TASKS)}")
    counts = sizes.by_split
    if name != "toy":
        vlm = load(name)
        parts = [limit_per_image(TASKS[data](split), 1)[:n] for split, n in counts.items()]
        return Case(vlm, Splits(*map(tuple, parts)), tuple(TASKS[data]("train")), data)
    planted, folder = toy_vlm(), tempfile.mkdtemp(prefix="toy-")
    items = iter(toy_items(planted, folder, images=sum(counts.values()), questions_per_image=1))
    splits = Splits(*(tuple(next(items) for _ in range(n)) for n in counts.values()))
    return Case(toy_llava(planted), splits, (*splits.profiling, *splits.tuning), "toy")
