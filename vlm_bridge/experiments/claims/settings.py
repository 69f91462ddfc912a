"""Sizes and settings of a run of the protocol; the defaults are what it registers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.p_values import SAMPLES
from vlm_bridge.experiments.dealing import SPLITS
from vlm_bridge.plan.controls import DRAWS


@dataclass(frozen=True)
class ClaimsSettings:
    """Settings of a run.

    Attributes:
        profiling, tuning, certification, test: number of images of each split, one question each.
        ranked: first test images on which single units are measured.
        null_images: first test images of each null; 0 leaves the nulls out, so that no verdict is
            supported.
        draws: random plans of equal size.
        pairs: timed pairs of full and skipped.
        samples: bootstrap samples of a test of ranks.
        resamples: of the certification images, for the promise that can fail; 0: none.
        epsilon, delta: level and error probability of certificates.
        max_new_tokens: longest answer, in tokens.
        batch_size: questions in a batch.
        seed: of random plans, nulls and resampling.
        beside: whether section 7 (stability, behaviour, promise) is measured.
        anyway: measure a model that does not enter to the end, too.
        checkpoint: folder of finished work, from which the same run continues.

    Raises:
        BridgeError: a number out of its range.
    """

    LEAST: ClassVar[dict[str, int]] = {
        **{"profiling": 1, "tuning": 2, "certification": 2, "test": 2, "ranked": 2},
        **{"null_images": 0, "draws": 2, "pairs": 1, "samples": 1, "resamples": 0},
        **{"max_new_tokens": 1, "batch_size": 1, "seed": 0},
    }

    profiling: int = 40
    tuning: int = 100
    certification: int = 410
    test: int = 410
    ranked: int = 200
    null_images: int = 60
    draws: int = DRAWS
    pairs: int = 31
    samples: int = SAMPLES
    resamples: int = 200
    epsilon: float = 0.05
    delta: float = 0.05
    max_new_tokens: int = 16
    batch_size: int = 16
    seed: int = 0
    beside: bool = True
    anyway: bool = False
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        for name, least in self.LEAST.items():
            if (value := getattr(self, name)) < least:
                raise BridgeError(f"{name} must be at least {least}, got {value}")
        if self.null_images == 1:
            raise BridgeError("null_images must be 0 or at least 2, got 1")
        for name, share in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0 < share < 1:
                raise BridgeError(f"{name} must lie between 0 and 1, got {share}")
        if self.ranked > self.test:
            raise BridgeError(
                f"single units are measured on test images: ranked is {self.ranked}, and there are "
                f"{self.test} of them; lower --ranked or raise --test"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> number of images."""
        return {name: getattr(self, name) for name in SPLITS}

    def record(self) -> dict[str, Any]:
        """What decides the numbers, for the result."""
        return {name: value for name, value in asdict(self).items() if name != "checkpoint"}
