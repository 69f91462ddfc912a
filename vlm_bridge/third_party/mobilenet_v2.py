"""MobileNetV2 from the weights of torchvision, as a standard transformers folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessorPil,
)

from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.third_party.saving import named, save_model

#: Blocks of torchvision with a residual structure: `features.1` to `features.17`.
_BLOCKS = 17
#: Mean and deviation of ImageNet by channel, as torchvision standardises images.
#: Mean and standard deviation by channel of the photos of ImageNet, as torchvision takes them.
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Write model and image processor: shorter side to 256 pixels, the middle 224 x 224."""
    config = MobileNetV2Config(
        num_labels=1000, tf_padding=False, layer_norm_eps=1e-5, image_size=224
    )
    tensors = mobilenet_tensors(_read(named(files, ".pth")))
    save_model(MobileNetV2ForImageClassification(config), tensors, folder)
    mean, std = IMAGENET
    MobileNetV2ImageProcessorPil(image_mean=mean, image_std=std).save_pretrained(folder)


def mobilenet_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under transformers' names.

    Raises:
        BridgeError: a weight is left over; `save_model` finds one that is missing.
    """
    layers = dict(_layers())
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        if layer not in layers:
            raise BridgeError(f"the weight '{name}' is not MobileNetV2's")
        tensors[f"{layers[layer]}.{kind}"] = tensor
    return tensors


def _layers() -> Iterator[tuple[str, str]]:
    """Every layer with weights: its name in torchvision and in transformers.

    A block expands (1 x 1), convolves each channel (3 x 3) and reduces (1 x 1), each with a
    normalisation. The first block does not expand; transformers puts it into the stem.
    """
    model = "mobilenet_v2"
    yield from _pair("features.0.0", "features.0.1", f"{model}.conv_stem.first_conv")
    for block in range(1, _BLOCKS + 1):
        there = f"{model}.conv_stem" if block == 1 else f"{model}.layer.{block - 2}"
        here, last = f"features.{block}.conv", 1 if block == 1 else 2
        if block > 1:
            yield from _pair(f"{here}.0.0", f"{here}.0.1", f"{there}.expand_1x1")
        yield from _pair(f"{here}.{last - 1}.0", f"{here}.{last - 1}.1", f"{there}.conv_3x3")
        yield from _pair(f"{here}.{last}", f"{here}.{last + 1}", f"{there}.reduce_1x1")
    head = f"features.{_BLOCKS + 1}"
    yield from _pair(f"{head}.0", f"{head}.1", f"{model}.conv_1x1")
    yield "classifier.1", "classifier"


def _pair(conv: str, norm: str, target: str) -> Iterator[tuple[str, str]]:
    yield conv, f"{target}.convolution"
    yield norm, f"{target}.normalization"


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file; `weights_only` refuses everything that is no tensor."""
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises errors of any type
        why = first_line(error)
        raise BridgeError(f"cannot read the weights in {path.name}: {why}") from None
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise BridgeError(f"{path.name} holds something else than tensors by name")
    return dict(found)
