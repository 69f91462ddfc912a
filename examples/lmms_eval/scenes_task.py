"""The data of the task beside this file; run as a script it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_bridge.data import limit_per_image, scenes

DATA = Path("out/lmms/scenes.jsonl")


def images(doc: dict[str, Any]) -> list[Image.Image]:
    """The picture of a question."""
    return [Image.open(doc["image"]).convert("RGB")]


def main(n_images: int = 24) -> None:
    """Write the first test scenes with one question each."""
    DATA.parent.mkdir(parents=True, exist_ok=True)
    items = limit_per_image(scenes("test"), 1)[:n_images]
    lines = [
        json.dumps({"image": str(item.image), "question": item.question, "answer": item.answer})
        for item in items
    ]
    DATA.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
