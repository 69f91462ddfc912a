"""What a model is made of and which ways to skip it supports: `skipit describe`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from estimators.record import Record
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.support import supported_modes


@dataclass(frozen=True)
class ModelDescription(Record):
    """The parts of a VLM that skipping is about. Layers are 0-based.

    Attributes:
        name: what the user called the model.
        model_class: its transformers class.
        decoder_class: class of its text decoder.
        layer_class: class of the decoder's layers.
        n_layers: number of decoder layers.
        hidden_size: width of a hidden state.
        heads: query heads of a layer.
        kv_heads: key and value heads of a layer.
        parameters: of the whole model.
        layer_parameters: of all decoder layers.
        sublayers: the modules a layer is made of, in their order in the class.
        attention_types: what every layer attends to.
        window: tokens a sliding layer looks back over; None where none slides.
        positions: `rope`, `mrope` (three axes for vision), or `learned`.
        token_ids: token group -> ids that put a position into it; every other id is text.
        vision_tokens: tokens of one image, or None where that depends on the image.
        vision_note: what `vision_tokens` counts, or why it is None.
        deepstack_layers: layers behind which vision features are added (DeepStack).
        cache_layers: class of every layer's part of the KV cache in generation.
        modes: mode -> "" where it is supported, else why it is not.
    """

    name: str
    model_class: str
    decoder_class: str
    layer_class: str
    n_layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    parameters: int
    layer_parameters: int
    sublayers: tuple[str, ...]
    attention_types: tuple[str, ...]
    window: int | None
    positions: str
    token_ids: dict[str, tuple[int, ...]]
    vision_tokens: int | None
    vision_note: str
    deepstack_layers: tuple[int, ...]
    cache_layers: tuple[str, ...]
    modes: dict[str, str]

    def __str__(self) -> str:
        """The description for people, one line a fact."""
        kinds = [_short(kind) for kind in self.attention_types]
        attention = _counted(kinds)
        if len(set(kinds)) > 1:
            attention += f": {' '.join(kinds)}"
        if self.window is not None:
            attention += f" (window {self.window})"
        ids = {group: ", ".join(map(str, found)) for group, found in self.token_ids.items()}
        vision = "varies" if self.vision_tokens is None else str(self.vision_tokens)
        lines = [
            ("model", f"{self.name} ({self.model_class}), {_big(self.parameters)} parameters"),
            (
                "decoder",
                f"{self.decoder_class}, {self.n_layers} layers of {self.layer_class} "
                f"({_big(self.layer_parameters)} parameters)",
            ),
            ("width", f"{self.hidden_size}, {self.heads} heads, {self.kv_heads} KV heads"),
            ("layer", ", ".join(self.sublayers)),
            ("attention", attention),
            ("positions", self.positions),
            ("cache", _counted(list(self.cache_layers))),
            ("vision tokens", f"{vision} ({self.vision_note})"),
            *((f"{group} ids", found or "none") for group, found in ids.items()),
        ]
        if self.deepstack_layers:
            behind = ", ".join(map(str, self.deepstack_layers))
            lines.append(("DeepStack", f"vision features added behind layers {behind}"))
        lines += [(mode, reason or "supported") for mode, reason in self.modes.items()]
        width = max(len(head) for head, _ in lines) + 2
        return "\n".join(f"{head:{width}}{text}" for head, text in lines)


def describe(vlm: VLM) -> ModelDescription:
    """Layout, token groups, attention types and supported modes of a model.

    Nothing is computed, so a model without weights does: `describe(load_meta(name))`.

    Args:
        vlm: a model from `load` or `load_meta`.

    Example:
        >>> from vlm_bridge.model.vlm import load_meta
        >>> print(describe(load_meta("llava-hf/llava-1.5-7b-hf")))  # doctest: +SKIP
        model          llava-hf/llava-1.5-7b-hf (LlavaForConditionalGeneration), ...
    """
    layout, config = vlm.layout, vlm.layout.text_config
    first = layout.layers[0]
    tokens, note = _vision_tokens(vlm.model, layout)
    sliding = "sliding_attention" in layout.attention_types
    return ModelDescription(
        name=vlm.name,
        model_class=type(vlm.model).__name__,
        decoder_class=type(layout.decoder).__name__,
        layer_class=type(first).__name__,
        n_layers=layout.n_layers,
        hidden_size=int(config.hidden_size),
        heads=int(config.num_attention_heads),
        kv_heads=int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads),
        parameters=_size(vlm.model),
        layer_parameters=_size(layout.layers),
        sublayers=tuple(name for name, _ in first.named_children()),
        attention_types=layout.attention_types,
        window=int(config.sliding_window) if sliding else None,
        positions=_positions(layout),
        token_ids={
            "image": layout.image_ids,
            "video": layout.video_ids,
            "audio": layout.audio_ids,
            "special": layout.special_ids,
        },
        vision_tokens=tokens,
        vision_note=note,
        deepstack_layers=layout.deepstack_layers,
        cache_layers=tuple(type(part).__name__ for part in DynamicCache(config=config).layers),
        modes=supported_modes(vlm),
    )


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _positions(layout: Layout) -> str:
    rope = getattr(layout.text_config, "rope_parameters", None) or {}
    if "mrope_section" in rope:
        return "mrope"
    return "rope" if rope else "learned"


def _vision_tokens(model: Any, layout: Layout) -> tuple[int | None, str]:
    """Tokens that the encoder makes of one image of the size it is built for."""
    config = model.config
    vision = getattr(config, "vision_config", None)
    if not layout.vision_ids:
        return None, "the model sees no images"
    varies = (config, "image_grid_pinpoints"), (config, "spatial_merge_size")
    for place, name in (*varies, (vision, "spatial_merge_size")):
        if getattr(place, name, None):
            return None, "depends on the size of the image"
    side, patch = (_side(getattr(vision, name, None)) for name in ("image_size", "patch_size"))
    if side is None or patch is None:
        return None, "not said by the configuration"
    shrunk = getattr(config, "scale_factor", None)  # Idefics3 and SmolVLM sort images out first
    found = (side // patch) ** 2 // shrunk**2 if shrunk else _encoded(model, side)
    if found is None:
        return None, "not said by the configuration"
    return found, f"an image or tile of {side} x {side} pixels"


def _encoded(model: Any, side: int) -> int | None:
    """Run the encoder of a copy without weights, where only shapes are worked out."""
    with torch.device("meta"):
        base = type(model)(model.config).base_model
        pixels = torch.zeros(1, 3, side, side)
    try:
        with torch.no_grad():
            found = base.get_image_features(pixels)
    except Exception:  # whatever it needs beside pixels: this is no error of the model's
        return None
    features = getattr(found, "pooler_output", found)
    if isinstance(features, list | tuple):
        features = features[0]
    if not isinstance(features, torch.Tensor):
        return None
    return int(features.numel()) // int(features.shape[-1])


def _side(size: Any) -> int | None:
    """The side of a square given as a number or as a pair."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) else None


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _counted(names: list[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items())


def _short(kind: str) -> str:
    return kind.removesuffix("_attention")


def _big(count: int) -> str:
    """A count with three digits: 135M, 7.06B.

    >>> _big(134_515_008), _big(7_063_427_072), _big(40_960)
    ('135M', '7.06B', '41k')
    """
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}" if unit != "k" else f"{count / limit:.0f}k"
    return str(count)
