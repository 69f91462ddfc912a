"""Every number of the reference VLM's training, in one place; the model card prints it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """One optimisation: AdamW, linear warm-up, cosine decay to zero, clipped gradients."""

    steps: int
    batch: int
    rate: float
    warmup: int
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Recipe:
    """The reference VLM: its shape and its two training stages.

    Stage one trains the vision tower on shape and colour labels read from the training
    questions. Stage two freezes it and trains projector and LoRA through the language
    model on the answer tokens, several questions packed behind one image. Where `entry` is
    not 0, vision tokens are absent from layers below it in stage two (DeepInsert).
    """

    seed: int = 0
    entry: int = 0
    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    questions_per_image: int = 8
    tower: Schedule = field(
        default_factory=lambda: Schedule(
            steps=2600, batch=64, rate=1e-3, warmup=200, weight_decay=0.05, checkpoint_every=200
        )
    )
    adapt: Schedule = field(
        default_factory=lambda: Schedule(steps=1500, batch=6, rate=5e-4, warmup=150)
    )

    @property
    def vision_tokens(self) -> int:
        """Patches of one image, each a token of the language model."""
        return (self.image_size // self.patch_size) ** 2

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, for the model card and the weights' metadata."""
        return asdict(self)


RECIPE = Recipe()
