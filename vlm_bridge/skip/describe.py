"""The structure of a model and the modes it supports: `skipit describe`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from estimators.record import Record
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.layout import Layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.stacks import STACKS
from vlm_bridge.skip.support import supported_modes

_GROUPS = ("image", "video", "audio", "special")


@dataclass(frozen=True)
class ModelDescription(Record):
    """The structure of a VLM as far as skipping depends on it. Layers are 0-based.

    Attributes:
        name: the name by which the model was loaded.
        model_class, decoder_class, layer_class: names of transformers classes.
        n_layers, hidden_size, heads, kv_heads: shape of the text decoder; the heads of its first
            layer.
        parameters, layer_parameters: number of parameters of the model and of all its layers.
        sublayers: names of the modules of a layer, in the order of the class.
        attention_types: kind of every layer, as the configuration names it; see `Layout`.
        window: length of the sliding window in tokens; None if no layer slides.
        positions: `rope`, `mrope` (three axes for vision), or `learned`.
        token_ids: token group -> ids whose positions belong to it; every other id is text.
        vision_tokens: tokens of one image, or None if it depends on the image.
        vision_note: the image that `vision_tokens` counts, or why it is None.
        deepstack_layers: layers after which vision features are added (DeepStack).
        cache_layers: class of every layer's KV cache in generation.
        modes: mode -> "" if it is supported, else the reason why not.
        encoders: stack -> its class, layers, width and modes, or why none of its layers is skipped.
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
    encoders: dict[str, str]

    def __str__(self) -> str:
        """The description as text, one line per property."""
        kinds = [kind.removesuffix("_attention") for kind in self.attention_types]
        order = f": {' '.join(kinds)}" if len(set(kinds)) > 1 else ""
        window = "" if self.window is None else f" (window {self.window})"
        layers = f"{self.n_layers} layers of {self.layer_class}"
        in_layers = f"({_big(self.layer_parameters)} parameters)"
        seen = self.token_ids["image"] or self.token_ids["video"]
        vision = "none" if not seen else str(self.vision_tokens or "varies")
        lines = [
            ("model", f"{self.name} ({self.model_class}), {_big(self.parameters)} parameters"),
            ("decoder", f"{self.decoder_class}, {layers} {in_layers}"),
            *((STACKS[name], text) for name, text in self.encoders.items()),
            ("width", f"{self.hidden_size}, {self.heads} heads, {self.kv_heads} KV heads"),
            ("layer", ", ".join(self.sublayers)),
            ("attention", _counted(kinds) + order + window),
            ("positions", self.positions),
            ("cache", _counted(self.cache_layers)),
            ("vision tokens", f"{vision} ({self.vision_note})"),
            *((f"{group} ids", _listed(ids) or "none") for group, ids in self.token_ids.items()),
        ]
        if self.deepstack_layers:
            layers = _listed(self.deepstack_layers)
            lines.append(("DeepStack", f"vision features added behind layers {layers}"))
        lines += [(mode, reason or "supported") for mode, reason in self.modes.items()]
        width = max(len(head) for head, _ in lines) + 2
        return "\n".join(f"{head:{width}}{text}" for head, text in lines)


def describe(vlm: VLM) -> ModelDescription:
    """Layout, token groups, attention types and supported modes of a model.

    Works without weights: `describe(load_meta(name))`.

    Example:
        >>> from vlm_bridge.model.vlm import load_meta
        >>> print(describe(load_meta("llava-hf/llava-1.5-7b-hf")))  # doctest: +SKIP
        model          llava-hf/llava-1.5-7b-hf (LlavaForConditionalGeneration), ...
    """
    check_vlm(vlm)
    layout, config = vlm.layout, vlm.layout.text_config
    of_first: Any = config.per_layer_config[0]  # the layers of some models have other heads
    heads = getattr(config, "decoder_attention_heads", None) or of_first.num_attention_heads
    if layout.encoder_decoder:  # its configuration counts the encoder's layers first
        cache = ["DynamicLayer"] * layout.n_layers
    else:
        cache = [type(part).__name__ for part in DynamicCache(config=config).layers]
    first = layout.layers[0]
    tokens, note = _vision_tokens(vlm.model, layout)
    rope = getattr(config, "rope_parameters", None) or {}
    sliding = "sliding_attention" in layout.attention_types
    return ModelDescription(
        name=vlm.name,
        model_class=type(vlm.model).__name__,
        decoder_class=type(layout.decoder).__name__,
        layer_class=type(first).__name__,
        n_layers=layout.n_layers,
        hidden_size=int(config.hidden_size),
        heads=int(heads),
        kv_heads=int(getattr(of_first, "num_key_value_heads", None) or heads),
        parameters=_parameters(vlm.model),
        layer_parameters=_parameters(layout.layers),
        sublayers=tuple(name for name, _ in first.named_children()),
        attention_types=layout.attention_types,
        window=int(config.sliding_window) if sliding else None,
        positions="mrope" if "mrope_section" in rope else "rope" if rope else "learned",
        token_ids={group: getattr(layout, f"{group}_ids") for group in _GROUPS},
        vision_tokens=tokens,
        vision_note=note,
        deepstack_layers=layout.deepstack_layers,
        cache_layers=tuple(cache),
        modes=supported_modes(vlm),
        encoders={name: _encoder(vlm, name) for name in layout.encoders},
    )


def _encoder(vlm: VLM, name: str) -> str:
    """The encoder `name` in words, or why none of its layers can be skipped."""
    stack = vlm.layout.encoders[name]
    if isinstance(stack, str):
        return stack
    reasons = supported_modes(vlm, name)
    modes = [mode for mode, reason in reasons.items() if not reason]
    kinds = f"{stack.n_layers} layers of {type(stack.layers[0]).__name__}, {stack.width} wide"
    return f"{type(stack.module).__name__}, {kinds}: {_listed(modes) or reasons['block']}"


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _vision_tokens(model: Any, layout: Layout) -> tuple[int | None, str]:
    """(tokens or None, note) for an image of the size for which the encoder was built."""
    config = model.config
    vision = getattr(config, "vision_config", None)
    if not layout.vision_ids:
        return None, "the model sees no images"
    merged = any(getattr(place, "spatial_merge_size", None) for place in (config, vision))
    if merged or getattr(config, "image_grid_pinpoints", None):
        return None, "depends on the size of the image"
    side, patch = (_side(getattr(vision, name, None)) for name in ("image_size", "patch_size"))
    tokens = None
    if side is not None and patch is not None:
        factor = getattr(config, "scale_factor", None)  # Idefics3 and SmolVLM drop empty images
        tokens = (side // patch) ** 2 // factor**2 if factor else _encoded_tokens(model, side)
    if tokens is None:
        return None, "not given by the configuration"
    return tokens, f"an image or tile of {side} x {side} pixels"


def _encoded_tokens(model: Any, side: int) -> int | None:
    """The number of features from the encoder of a copy on the meta device."""
    with torch.device("meta"):
        base = type(model)(model.config).base_model
        pixels = torch.zeros(1, 3, side, side)
    try:
        with torch.no_grad():
            output = base.get_image_features(pixels)
    except Exception:  # the encoder needs more than pixels, which is no error
        return None
    features = getattr(output, "pooler_output", output)
    if isinstance(features, list | tuple):
        features = features[0]
    return features[..., 0].numel() if isinstance(features, torch.Tensor) else None


def _side(size: Any) -> int | None:
    """The side of a square, given as a number or as a pair of equal numbers."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) else None


def _counted(names: Sequence[str]) -> str:
    return _listed(f"{count} {name}" for name, count in Counter(names).items())


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _big(count: int) -> str:
    """A count with three significant digits.

    >>> _big(134_515_008), _big(7_063_427_072), _big(40_960)
    ('135M', '7.06B', '41k')
    """
    for limit, unit in ((1e9, "B"), (1e6, "M")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return f"{count / 1e3:.0f}k" if count >= 1e3 else str(count)
