"""Images and settings of a rule benchmark."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from vlm_bridge.data import Item, image_ids
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.controls import BANDS
from vlm_bridge.plan.controls import DRAWS
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.rules import RULES, Rule


@dataclass(frozen=True)
class Sizes:
    """Number of images of each split, one question each.

    Attributes:
        images: images for certification, and as many for the test.
        tuning: images that choose the path of every rule.
        profiling: images that rules may read.
    """

    images: int = 200
    tuning: int = 100
    profiling: int = 40

    def __post_init__(self) -> None:
        _check_least(self, {"images": 1, "tuning": 1, "profiling": 1})

    @property
    def by_split(self) -> dict[str, int]:
        """Split of a task set -> number of images, in the order of `Splits`."""
        names = ("profile", "tuning", "certification", "test")
        counts = (self.profiling, self.tuning, self.images, self.images)
        return dict(zip(names, counts, strict=True))


@dataclass(frozen=True)
class Splits:
    """Four sets of questions that share no image.

    Attributes:
        profiling: questions that rules may read.
        tuning: questions that choose the path of every rule.
        certification: questions that certify the path, and the pool of the resamplings.
        test: questions that measure single units and certified plans.

    Raises:
        BridgeError: an image in two splits, or an empty split.
    """

    profiling: tuple[Item, ...]
    tuning: tuple[Item, ...]
    certification: tuple[Item, ...]
    test: tuple[Item, ...]

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        for name, items in self.by_name.items():
            if not items:
                raise BridgeError(f"the split '{name}' has no questions")
            for image in image_ids(items):
                if owner.setdefault(image, name) != name:
                    raise BridgeError(
                        f"splits '{owner[image]}' and '{name}' share an image or a cluster"
                    )

    @property
    def by_name(self) -> dict[str, tuple[Item, ...]]:
        """Name of the split -> its questions."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Settings:
    """Settings of a rule benchmark.

    Attributes:
        rules: rules to score.
        modes: some of `RULE_MODES`; modes that the model does not support are refused.
        epsilon: largest disagreement of a safe unit, and the level that plans are certified at.
        delta: probability with which a certificate may be wrong.
        candidates: number of nested plans of a layer-wise rule that are tried, evenly spaced in
            size. In modes of depths every depth is a candidate.
        resamples: bootstrap samples of the certification images.
        pairs: timed pairs of full and skipped runs.
        draws: random plans of the size of every certified plan; 0: none.
        bands: of neighbouring layers in which text's attention to the image is knocked out; 0:
            none.
        batch_size: questions in a batch.
        seed: of the resampling.
        forward_cost: budget of every rule, in forward passes over the profiling images; a rule
            that costs more reads fewer images. None: no limit.
        checkpoint: folder of finished work, which a later run with the same sizes reads.

    Raises:
        BridgeError: an unknown mode, or a number out of its range.
    """

    LEAST: ClassVar[dict[str, int]] = {
        **{"candidates": 2, "resamples": 1, "pairs": 1, "draws": 0, "bands": 0, "batch_size": 1}
    }

    rules: tuple[Rule, ...] = tuple(RULES.values())
    modes: tuple[str, ...] = RULE_MODES
    epsilon: float = 0.05
    delta: float = 0.05
    candidates: int = 10
    resamples: int = 200
    pairs: int = 11
    draws: int = DRAWS
    bands: int = BANDS
    batch_size: int = 16
    seed: int = 0
    forward_cost: float | None = None
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        cost, epsilon, delta = self.forward_cost, self.epsilon, self.delta
        if unknown := sorted(set(self.modes) - set(RULE_MODES)):
            modes = ", ".join(RULE_MODES)
            raise BridgeError(f"rules have no mode {', '.join(unknown)}; they have {modes}")
        if cost is not None and not cost > 0:
            raise BridgeError(f"a budget of forward passes must be positive, got {cost}")
        if not 0 < epsilon < 1 or not 0 < delta < 1:
            raise BridgeError(f"epsilon and delta must lie in (0, 1), got {epsilon} and {delta}")
        _check_least(self, self.LEAST)


def _check_least(settings: object, least: dict[str, int]) -> None:
    for name, smallest in least.items():
        if (value := getattr(settings, name)) < smallest:
            raise BridgeError(f"{name} must be at least {smallest}, got {value}")
