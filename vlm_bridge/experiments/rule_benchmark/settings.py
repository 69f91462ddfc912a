"""What a benchmark looks at, and how it is done."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_bridge.data import Item, image_hashes
from vlm_bridge.errors import BridgeError


@dataclass(frozen=True)
class Splits:
    """Four sets of questions; no image is in two of them.

    Attributes:
        profiling: what rules may look at.
        tuning: choose the path of every rule.
        certification: certify it; the pool of the resamplings.
        test: say what is true of units, and of certified plans.

    Raises:
        BridgeError: an image in two of them, or one is empty.
    """

    profiling: tuple[Item, ...]
    tuning: tuple[Item, ...]
    certification: tuple[Item, ...]
    test: tuple[Item, ...]

    def __post_init__(self) -> None:
        names = ("profiling", "tuning", "certification", "test")
        owner: dict[str, str] = {}
        for name in names:
            items = getattr(self, name)
            if not items:
                raise BridgeError(f"the split '{name}' has no questions")
            for image in image_hashes(items):
                if owner.setdefault(image, name) != name:
                    raise BridgeError(f"splits '{owner[image]}' and '{name}' share an image")


@dataclass(frozen=True)
class Settings:
    """How a benchmark is done.

    Attributes:
        epsilon: the line between safe and harmful, and what is promised.
        delta: probability with which a promise may be wrong.
        candidates: nested plans a layer-wise rule puts forward, evenly from small to large; of
            depths every one is a candidate.
        resamples: of the certification images.
        pairs: timed pairs of full and skipped.
        batch_size: questions in a batch.
        seed: of resampling.
        forward_cost: what every rule may cost, in forward passes over the images it may look at; a
            rule that costs more sees fewer of them. None: whatever it takes.

    Raises:
        BridgeError: forward_cost not positive, fewer than two candidates, no resample or pair,
            epsilon or delta outside (0, 1).
    """

    epsilon: float = 0.05
    delta: float = 0.05
    candidates: int = 10
    resamples: int = 200
    pairs: int = 11
    batch_size: int = 16
    seed: int = 0
    forward_cost: float | None = None

    def __post_init__(self) -> None:
        if self.forward_cost is not None and not self.forward_cost > 0:
            raise BridgeError(
                f"a budget of forward passes must be positive, got {self.forward_cost}"
            )
        if not 0 < self.epsilon < 1 or not 0 < self.delta < 1:
            raise BridgeError(
                f"epsilon and delta must lie in (0, 1), got {self.epsilon} and {self.delta}"
            )
        for name, least in {"candidates": 2, "resamples": 1, "pairs": 1, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise BridgeError(f"{name} must be at least {least}, got {getattr(self, name)}")
