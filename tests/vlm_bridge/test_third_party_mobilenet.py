"""MobileNetV2 of torchvision becomes the same function in transformers' format."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForImageClassification

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.mobilenet_v2 import convert, mobilenet_tensors

#: Expansion, channels, repeats and first stride of each stage (Sandler et al. 2018, table 2).
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
STAGES += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def blocks():
    """Number, input and output channels, expansion and stride of each block."""
    number, channels = 0, 32
    for expansion, out, repeats, first in STAGES:
        for repeat in range(repeats):
            number += 1
            yield number, channels, out, expansion, first if repeat == 0 else 1
            channels = out


@pytest.fixture(scope="module")
def weights():
    """Random weights under torchvision's names."""
    torch.manual_seed(0)
    found = {}

    def layer(conv, norm, out, channels, side):
        scale = (channels * side * side) ** -0.5
        found[f"{conv}.weight"] = torch.randn(out, channels, side, side) * scale * 1.6
        found[f"{norm}.weight"] = torch.rand(out) + 0.5
        found[f"{norm}.bias"] = torch.randn(out) * 0.3
        found[f"{norm}.running_mean"] = torch.randn(out) * 0.1
        found[f"{norm}.running_var"] = torch.rand(out) + 0.5
        found[f"{norm}.num_batches_tracked"] = torch.tensor(3)

    layer("features.0.0", "features.0.1", 32, 3, 3)
    for number, channels, out, expansion, _ in blocks():
        at, wide = f"features.{number}.conv", channels * expansion
        if expansion > 1:
            layer(f"{at}.0.0", f"{at}.0.1", wide, channels, 1)
        middle = int(expansion > 1)
        layer(f"{at}.{middle}.0", f"{at}.{middle}.1", wide, 1, 3)
        layer(f"{at}.{middle + 1}", f"{at}.{middle + 2}", out, wide, 1)
    layer("features.18.0", "features.18.1", 1280, 320, 1)
    found["classifier.1.weight"] = torch.randn(1000, 1280) * 0.03
    found["classifier.1.bias"] = torch.randn(1000)
    return found


def torchvision_logits(weights, x):
    """The network as torchvision computes it, by names of its own."""

    def layer(x, conv, norm, *, stride=1, act=True):
        kernel = weights[f"{conv}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        x = functional.batch_norm(x, *(weights[f"{norm}.{name}"] for name in names))
        return functional.relu6(x) if act else x

    x = layer(x, "features.0.0", "features.0.1", stride=2)
    for number, channels, out, expansion, stride in blocks():
        at, middle, y = f"features.{number}.conv", int(expansion > 1), x
        if expansion > 1:
            y = layer(y, f"{at}.0.0", f"{at}.0.1")
        y = layer(y, f"{at}.{middle}.0", f"{at}.{middle}.1", stride=stride)
        y = layer(y, f"{at}.{middle + 1}", f"{at}.{middle + 2}", act=False)
        x = x + y if stride == 1 and channels == out else y
    x = layer(x, "features.18.0", "features.18.1").mean((2, 3))
    return functional.linear(x, weights["classifier.1.weight"], weights["classifier.1.bias"])


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    """The converted model, from a file in the format of 2020."""
    path = tmp_path_factory.mktemp("pth") / "mobile.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    out = tmp_path_factory.mktemp("mobilenet")
    convert({"weights/mobile.pth": path}, out)
    return out


def test_the_logits_are_those_of_torchvision(weights, folder):
    model = AutoModelForImageClassification.from_pretrained(folder)
    torch.manual_seed(1)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        ours, theirs = model(pixel_values=x).logits, torchvision_logits(weights, x)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
    assert (theirs[0] - theirs[1]).std() > 0.05


def test_images_are_standardised_as_in_torchvision(folder):
    processor = AutoImageProcessor.from_pretrained(folder)
    white = Image.fromarray(np.full((300, 400, 3), 255, np.uint8))
    x = processor(white, return_tensors="pt").pixel_values
    assert x.shape == (1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(x.mean((0, 2, 3)), (1 - mean) / std)


def test_a_left_over_weight_is_refused(weights):
    with pytest.raises(BridgeError, match=r"'features\.19\.0\.weight' is not MobileNetV2's"):
        mobilenet_tensors({**weights, "features.19.0.weight": torch.zeros(1)})


@pytest.mark.parametrize("name", ["features.5.conv.1.1.running_var", "classifier.1.bias"])
def test_a_missing_weight_is_refused(name, weights, tmp_path):
    kept = {key: value for key, value in weights.items() if key != name}
    torch.save(kept, tmp_path / "mobile.pth")
    with pytest.raises(BridgeError, match="does not hold the tensors of MobileNetV2"):
        convert({"mobile.pth": tmp_path / "mobile.pth"}, tmp_path)


def a_call(*_):
    raise SystemExit("executed")


class Hostile:
    def __reduce__(self):
        return a_call, ()


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_no_tensor_is_not_executed(legacy, tmp_path):
    torch.save({"a": Hostile()}, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BridgeError, match=r"cannot read the weights in m\.pth"):
        convert({"m.pth": tmp_path / "m.pth"}, tmp_path)


@pytest.mark.parametrize("data", [b"", b"no file of weights"])
def test_another_file_is_refused(data, tmp_path):
    (tmp_path / "m.pth").write_bytes(data)
    with pytest.raises(BridgeError, match=r"m\.pth"):
        convert({"m.pth": tmp_path / "m.pth"}, tmp_path)
