"""Options that several commands share, each group once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.data import TASKS, Item, limit_per_image, read_jsonl
from vlm_bridge.model.vlm import VLM, load

Epsilon = Annotated[float, typer.Option(help="Share of answers that may change.")]
Model = Annotated[
    str, typer.Argument(help="'reference', a model folder, or a Hugging Face id (owner/name).")
]
Remote = Annotated[
    bool, typer.Option(help="Run code that comes with the model. Off unless you say so.")
]
PlanWords = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A plan file, or a plan in words: 'early_exit exit=20', 'block layers=3,5-7', "
        "'band entry=4 exit=20 + freeze layers=6-8'.",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and where it runs."""

    model: Model
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32"
    device: Annotated[
        str | None, typer.Option(help="A torch device, or 'auto' (default: CPU).")
    ] = None
    attention: Annotated[
        str | None, typer.Option(help="sdpa, eager or flash_attention_2 (default: the model's).")
    ] = None
    trust_remote_code: Remote = False

    def load(self) -> VLM:
        """The model."""
        return load(
            self.model,
            dtype=self.dtype,
            device=self.device,
            attention=self.attention,
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True)
class DataOptions:
    """Which questions, and how many at once."""

    data: Annotated[
        str,
        typer.Option(
            help="A JSONL file of {image, question, answer?, cluster?}, easy-vqa:SPLIT or "
            "scenes:SPLIT."
        ),
    ]
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images (default: beside the JSONL file).")
    ] = None
    per_image: Annotated[
        int | None,
        typer.Option(min=1, help="At most this many questions of an image (default: all)."),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Questions in a batch.")] = 16

    def items(self) -> list[Item]:
        """The questions."""
        name, _, split = self.data.partition(":")
        if name in TASKS:
            items = TASKS[name](split)
        else:
            items = read_jsonl(self.data, images=self.images)
        if self.per_image is not None:
            items = limit_per_image(items, self.per_image)
        if self.limit is not None:
            kept = set(list(dict.fromkeys(item.cluster for item in items))[: self.limit])
            items = [item for item in items if item.cluster in kept]
        return items
