"""Load the processor of a model: without what cannot be loaded, or its tokenizer alone."""

from __future__ import annotations

from typing import Any

from transformers import AutoProcessor, AutoTokenizer, Idefics3Processor, ProcessorMixin
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import is_torchvision_available


def load_processor(source: str, config: Any, **options: Any) -> Any:
    """`AutoProcessor` of a folder or hub id, without video processor if torchvision is missing.

    Without torchvision, transformers refuses the whole processor of a family that takes videos
    (Qwen-VL, SmolVLM, LLaVA-OneVision, InternVL), though images need Pillow alone. A text-only
    model has its tokenizer in place of a processor.
    """
    other = (MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not any(type(config) in m for m in other):
        return AutoTokenizer.from_pretrained(source, **options)
    kind = PROCESSOR_MAPPING[type(config)] if type(config) in PROCESSOR_MAPPING else None
    if kind is None or is_torchvision_available() or "video_processor" not in kind.get_attributes():
        return AutoProcessor.from_pretrained(source, **options)
    return images_only(kind).from_pretrained(source, **options)


def images_only(kind: Any) -> Any:
    """A processor class with the name of `kind` but without video processor."""
    if kind.__name__ == "SmolVLMProcessor":  # it needs one more package; images are the same
        return Idefics3Processor
    place = kind.get_attributes().index("video_processor")
    names = [name for name in kind.get_attributes() if name != "video_processor"]

    def parts(cls: Any, *args: Any, **options: Any) -> list[Any]:
        """What `kind.__init__` takes in its order, with nothing in the video processor's place."""
        found: list[Any] = kind._get_arguments_from_pretrained.__func__(cls, *args, **options)
        return [*found[:place], None, *found[place:]]

    def keep(self: Any, *args: Any, **options: Any) -> None:
        """Replaces `ProcessorMixin.__init__`, which `kind.__init__` calls with its parts."""
        options.pop("video_processor", None)
        ProcessorMixin.__init__(self, *args[:place], *args[place + 1 :], **options)

    body = {
        "__module__": kind.__module__,
        "get_attributes": classmethod(lambda _: list(names)),
        "_get_arguments_from_pretrained": classmethod(parts),
    }
    mixin = type("WithoutVideos", (ProcessorMixin,), {"__init__": keep})
    return type(kind.__name__, (kind, mixin), body)
