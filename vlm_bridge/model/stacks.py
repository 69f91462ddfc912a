"""The encoders of a model as stacks of residual layers, found by structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.matrices import has_matrices
from vlm_bridge.plan.stacks import STACKS

#: Stack -> (argument of transformers' `get_encoder`, token group of its positions).
_ENCODERS: dict[str, tuple[str | None, str]] = {
    "vision": ("image", "image"),
    "audio": ("audio", "audio"),
    "encoder": (None, "text"),
}
#: Main inputs of encoders that read sound.
_SOUND = ("input_features", "input_values")


@dataclass(frozen=True)
class Stack:
    """A list of residual layers of which a plan may skip some.

    Attributes:
        name: the name by which plans call it; see `SkipPlan.stack`.
        module: the decoder or encoder around the layers.
        layers: its layers, 0-based.
        config: configuration of `module`.
        width: width of the hidden states.
        group: token group of its positions; those of a decoder have several.
    """

    name: str
    module: nn.Module
    layers: nn.ModuleList
    config: PreTrainedConfig
    width: int
    group: str

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)


def find_encoders(model: Any, decoder: nn.Module) -> dict[str, Stack | str]:
    """Stack -> the encoder of that name, or why none of its layers can be skipped.

    An encoder of audio counts as `audio` in encoder-decoders, too. Encoders that `model` does not
    have are left out.
    """
    found: dict[str, Stack | str] = {}
    for name, (modality, group) in _ENCODERS.items():
        tower = _tower(model, modality, decoder)
        if tower is None or any(tower is getattr(s, "module", None) for s in found.values()):
            continue
        if name == "encoder" and getattr(tower, "main_input_name", "") in _SOUND:
            name, group = "audio", "audio"
        found.setdefault(name, _stack(model, name, tower, group))
    return found


def _tower(model: Any, modality: str | None, decoder: nn.Module) -> Any:
    """The encoder of a modality; None if transformers finds none beside the decoder."""
    if not hasattr(model, "get_encoder"):
        return None
    tower = model.get_encoder(modality=modality)
    inside = isinstance(tower, nn.Module) and not any(part is decoder for part in tower.modules())
    return tower if inside and not any(part is tower for part in decoder.modules()) else None


def _stack(model: nn.Module, name: str, tower: Any, group: str) -> Stack | str:
    """The one list of layers with attention in an encoder, or why there is none."""
    lists = [
        part
        for part in tower.modules()
        if isinstance(part, nn.ModuleList) and len(part) and all(map(attentions, part))
    ]
    who = f"{type(model).__name__}: its {STACKS[name]} ({type(tower).__name__})"
    if not lists:
        return f"{who} is no list of residual layers with attention, so none can be skipped"
    if len(lists) > 1:
        return f"{who} has {len(lists)} lists of layers, and a plan is about one"
    layers = lists[0]
    config = getattr(tower, "config", model.config)
    return Stack(name, tower, layers, config, _width(layers[0], config), group)


def attentions(layer: nn.Module) -> dict[str, nn.Module]:
    """The children of a layer that are attentions, by name: with weight matrices, unlike norms."""
    return {
        name: child
        for name, child in layer.named_children()
        if ("attn" in name or "attention" in name) and has_matrices(child)
    }


def check_cross_attention(kind: str, layers: nn.ModuleList) -> None:
    """Raise a `BridgeError` unless all layers of an encoder-decoder's decoder are of one form.

    That is self-attention, attention to the encoder, and an MLP, each with a residual connection.
    """
    for index, layer in enumerate(layers):
        own = getattr(layer, "self_attn", None)
        if getattr(own, "layer_idx", None) != index or not hasattr(layer, "encoder_attn"):
            raise BridgeError(
                f"{kind}: layer {index} ({type(layer).__name__}) is not made of self_attn, "
                "encoder_attn and an MLP; this encoder-decoder is not supported"
            )


def _width(layer: nn.Module, config: Any) -> int:
    """Width of the hidden states, by the first norm of a layer."""
    for child in layer.children():
        sizes = {tuple(weight.shape) for weight in child.parameters()}
        if len(sizes) == 1 and len(size := sizes.pop()) == 1:
            return int(size[0])
    return int(config.hidden_size)
