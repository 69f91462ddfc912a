"""Load the processor of a model, without its video processor if that cannot be loaded."""

from __future__ import annotations

from typing import Any

from transformers import AutoProcessor, Idefics3Processor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import is_torchvision_available


def load_processor(source: str, config: Any, **options: Any) -> Any:
    """`AutoProcessor` of a folder or hub id, without video processor if torchvision is missing.

    Without torchvision, transformers refuses the whole processor of a family that takes videos
    (Qwen-VL, SmolVLM, LLaVA-OneVision, InternVL), though images need Pillow alone.
    """
    kind = PROCESSOR_MAPPING[type(config)] if type(config) in PROCESSOR_MAPPING else None
    if kind is None or is_torchvision_available() or "video_processor" not in kind.get_attributes():
        return AutoProcessor.from_pretrained(source, **options)
    return images_only(kind).from_pretrained(source, **options)


def images_only(kind: Any) -> Any:
    """A processor class with the name of `kind` but without video processor."""
    if kind.__name__ == "SmolVLMProcessor":  # it needs one more package; images are the same
        return Idefics3Processor
    names = [name for name in kind.get_attributes() if name != "video_processor"]
    body = {"__module__": kind.__module__, "get_attributes": classmethod(lambda _: list(names))}
    return type(kind.__name__, (kind,), body)
