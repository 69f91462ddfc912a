"""Find the parts of a language model, with or without vision and audio, by structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.kinds import ATTENTION, layer_kinds
from vlm_bridge.model.stacks import Stack, check_cross_attention, find_encoders
from vlm_bridge.plan.stacks import DECODER, STACKS

#: The token groups that partition the positions of a prompt, in the order of their codes.
TOKEN_GROUPS = ("text", "image", "video", "audio", "special", "pad")
#: The groups of modality tokens: their positions hold features of something other than text.
MODALITIES = ("image", "video", "audio")

#: Configuration fields with the id of the placeholder token of a modality.
_PLACEHOLDERS = {name: (f"{name}_token_id", f"{name}_token_index") for name in MODALITIES}
#: Words in the names of arguments that a model takes only if it sees or hears.
_FEATURES = {"pixel", "image", "images", "video", "videos", "vision", "audio", "features", "speech"}


@dataclass(frozen=True)
class Layout:
    """The parts of a model that the bridge uses.

    Attributes:
        base: the module that turns `input_ids`, pixels and sounds into hidden states.
        entrances: modules that take `input_ids` and call the decoder, the outermost first.
        decoder: the text decoder; it owns `layers` and is called by `base`.
        layers: the decoder layers, 0-based.
        text_config: configuration of the decoder.
        image_ids: token ids whose positions hold image features.
        video_ids: the same for video.
        audio_ids: the same for audio. A text-only model has none of the three.
        special_ids: the tokenizer's other special tokens (chat markers, end of text).
        attention_types: kind of every layer: `full_attention`, `sliding_attention` or
            `chunked_attention`; others, such as `linear_attention` or `conv`, have fewer modes.
        deepstack_layers: layers after which the decoder adds vision features (DeepStack).
        encoders: stack -> the encoder beside the decoder, or why its layers cannot be skipped.
        encoder_decoder: the decoder looks at an encoder through cross-attention, and the prompt is
            not in the sequence that it continues.
    """

    base: nn.Module
    entrances: tuple[nn.Module, ...]
    decoder: nn.Module
    layers: nn.ModuleList
    text_config: PreTrainedConfig
    image_ids: tuple[int, ...]
    video_ids: tuple[int, ...]
    audio_ids: tuple[int, ...]
    special_ids: tuple[int, ...]
    attention_types: tuple[str, ...]
    deepstack_layers: tuple[int, ...]
    encoders: Mapping[str, Stack | str] = field(default_factory=dict)
    encoder_decoder: bool = False

    @property
    def stacks(self) -> dict[str, Stack]:
        """The stacks whose layers a plan may skip, in the order in which the model runs them."""
        return {
            name: self.stack(name)
            for name in STACKS
            if name == DECODER or isinstance(self.encoders.get(name), Stack)
        }

    def stack(self, name: str = DECODER) -> Stack:
        """The stack of that name.

        Raises:
            BridgeError: the model has no such stack, or none of its layers can be skipped.
        """
        if name == DECODER:
            width = int(self.text_config.hidden_size)
            return Stack(name, self.decoder, self.layers, self.text_config, width, "text")
        found = self.encoders.get(name)
        if found is None:
            raise BridgeError(
                f"{type(self.base).__name__} has no stack {shown(name)}; it has "
                f"{', '.join(self.stacks)}"
            )
        if isinstance(found, str):
            raise BridgeError(found)
        return found

    def depth(self, stack: str) -> int:
        """Number of layers of a stack; errors are those of `stack`."""
        return self.stack(stack).n_layers

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    def attends(self, layer: int) -> bool:
        """Whether a decoder layer is self-attention of which every mode can skip a part.

        So are layers beyond the last, of which a cache may have some.
        """
        return layer >= self.n_layers or self.attention_types[layer] in ATTENTION

    @property
    def vision_ids(self) -> tuple[int, ...]:
        """Token ids whose positions hold vision features, image or video."""
        return tuple(sorted({*self.image_ids, *self.video_ids}))

    @property
    def modality_ids(self) -> tuple[int, ...]:
        """Token ids whose positions hold features: image, video or audio; what modes skip."""
        return tuple(sorted({*self.vision_ids, *self.audio_ids}))

    @property
    def modality(self) -> str:
        """What the modality tokens hold, in words: "vision", "audio", or "vision and audio".

        Empty for a text-only model.
        """
        kinds = {"vision": self.vision_ids, "audio": self.audio_ids}
        return " and ".join(name for name, ids in kinds.items() if ids)

    def token_groups(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(batch, length) indices into `TOKEN_GROUPS`; the mask is 0 on padding."""
        codes = torch.zeros_like(input_ids)
        for name in ("special", "audio", "video", "image"):
            codes[_is_in(input_ids, getattr(self, f"{name}_ids"))] = TOKEN_GROUPS.index(name)
        if attention_mask is not None:
            codes[attention_mask == 0] = TOKEN_GROUPS.index("pad")
        return codes

    def modality_flags(self, input_ids: Tensor, kinds: Sequence[str] = MODALITIES) -> Tensor:
        """(batch, length) bool: which positions hold features, of all kinds or of some."""
        ids = {token for kind in kinds for token in getattr(self, f"{kind}_ids")}
        return _is_in(input_ids, tuple(sorted(ids)))


def _is_in(ids: Tensor, values: tuple[int, ...]) -> Tensor:
    return torch.isin(ids, torch.tensor(values, device=ids.device, dtype=ids.dtype))


def find_layout(model: PreTrainedModel, special_ids: tuple[int, ...] = ()) -> Layout:
    """Find decoder, layers and placeholder tokens of a transformers model, also on the meta device.

    `special_ids` are those of its tokenizer, with or without placeholders. A `BridgeError` refuses
    encoder-decoders with images, layers of a kind that is not known (see `layer_kinds`), and
    models that take images, video or audio and whose configuration names no placeholder token for
    them. A text-only model and an encoder-decoder have none.
    """
    kind, config = type(model).__name__, model.config
    text_config = config.get_text_config(decoder=True)
    both = bool(config.is_encoder_decoder or text_config.is_encoder_decoder)
    if both and getattr(config, "vision_config", None) is not None:
        raise BridgeError(
            f"{kind} is an encoder-decoder with images; supported are encoder-decoders of text or "
            "audio, and decoder-only models"
        )
    decoder = _find_decoder(model)
    entrances = _entrances(model, decoder, "decoder_input_ids" if both else "input_ids")
    if "decoder_input_ids" in signature(type(decoder).forward).parameters:
        raise BridgeError(
            f"{kind} reads its prompt in an encoder and answers in decoder_input_ids; only models "
            "with prompt and answer in one sequence are supported"
        )
    if both:  # the configuration of the text side is a copy, which does not follow the model
        text_config = decoder.config
        check_cross_attention(kind, decoder.layers)
        attention_types: tuple[str, ...] = ("full_attention",) * len(decoder.layers)
    else:
        attention_types = layer_kinds(kind, text_config, decoder.layers)
    ids = {name: _placeholders(config, name) for name in _PLACEHOLDERS}
    if not both and not any(ids.values()) and (found := _features_taken(model, entrances)):
        raise BridgeError(
            f"{kind}: its configuration names no image, video or audio token, so it is not known "
            f"which positions hold {found}"
        )
    placeholders = {token for tokens in ids.values() for token in tokens}
    # A wrapper such as PEFT's is no transformers model; its `base_model` is another wrapper.
    inner = next((part for part in entrances if isinstance(part, PreTrainedModel)), None)
    if inner is None:
        raise BridgeError(f"{kind}: no module around its decoder takes input_ids")
    return Layout(
        base=inner.base_model,
        entrances=entrances,
        decoder=decoder,
        layers=decoder.layers,
        text_config=text_config,
        image_ids=ids["image"],
        video_ids=tuple(sorted(set(ids["video"]) - set(ids["image"]))),
        audio_ids=ids["audio"],
        special_ids=tuple(sorted(set(special_ids) - placeholders)),
        attention_types=attention_types,
        deepstack_layers=_deepstack_layers(config, decoder),
        encoders=find_encoders(inner, decoder),
        encoder_decoder=both,
    )


def _find_decoder(model: PreTrainedModel) -> Any:
    """The module that owns the layers; Llama4's and BLIP-2's `get_decoder` is one level above."""
    decoder: Any = model.get_decoder()
    for inner in ("model", "decoder"):
        if not hasattr(decoder, "layers") and hasattr(decoder, inner):
            decoder = getattr(decoder, inner)
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise BridgeError(
            f"{type(model).__name__}: found no list of decoder layers; this family is not supported"
        )
    return decoder


def _entrances(model: PreTrainedModel, decoder: nn.Module, ids: str) -> tuple[nn.Module, ...]:
    """The modules around the decoder that take its `ids`; the decoder if it sees the images."""
    path = next(name for name, module in model.named_modules() if module is decoder)
    names = path.split(".") if path else []
    around = [model.get_submodule(".".join(names[:depth])) for depth in range(len(names))]
    if decoder is model.base_model:
        around.append(decoder)
    return tuple(part for part in around if ids in signature(type(part).forward).parameters)


def _features_taken(model: Any, entrances: Sequence[nn.Module]) -> str:
    """What a model takes beside text, by its arguments or its encoders; empty if nothing."""
    names = (name for part in entrances for name in signature(type(part).forward).parameters)
    encoders = (name for name in ("vision", "audio") if hasattr(model.config, f"{name}_config"))
    named = (name for name in names if _FEATURES & set(name.split("_")))
    return next(named, None) or next((f"{name} features" for name in encoders), "")


def _placeholders(config: Any, kind: str) -> tuple[int, ...]:
    """Ids of a modality's placeholder, from the configuration or those of its encoders."""
    configs = [config, *(getattr(config, f"{name}_config", None) for name in ("vision", "audio"))]
    tokens = [getattr(c, field, None) for c in configs for field in _PLACEHOLDERS[kind]]
    return tuple(sorted({int(token) for token in tokens if token is not None}))


def _deepstack_layers(config: Any, decoder: Any) -> tuple[int, ...]:
    """Layers after which the decoder adds vision features: the mapped layers, or the first."""
    layer_map = getattr(config, "deepstack_layer_map", None)
    if layer_map:
        return tuple(sorted({int(layer) for _, layer in layer_map}))
    if not any(name.startswith("deepstack") for name in signature(decoder.forward).parameters):
        return ()
    indexes = getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", ())
    return tuple(range(len(indexes)))
