"""The toy VLM of `theory.systems` as a real LLaVA, with images and questions to ask it.

For tests and notebooks: everything the bridge does can be held against a planted truth.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from theory.systems import ToyVLM
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM

_SIDE, _PATCH = 16, 8
#: A patch is a board of 4 x 4 squares; the bright one says which class the image is of.
_SQUARE = _PATCH // 4
_BRIGHT = 255
_CHAT = (
    "{% for m in messages %}<s>{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %} <image>{% else %} {{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}"
)


def toy_llava(toy: ToyVLM, *, attention: str = "sdpa") -> VLM:
    """Load a toy VLM into a real `LlavaForConditionalGeneration` with a Llama decoder.

    The decoder gets the arrays as they are. The vision tower (CLIP, encoder layers that add
    nothing) sees which square of a patch is bright, and the projector is solved so that an
    image of class c enters the decoder as `toy.vision[c]`, in float32 accuracy.

    Args:
        toy: from `theory.systems.toy_vlm`.
        attention: `sdpa` or `eager`.

    Returns:
        A VLM for every verb of the bridge, in float32 on the CPU.

    Raises:
        BridgeError: the projector misses `toy.vision` (it should not).

    Example:
        >>> from theory.systems import toy_vlm
        >>> toy_llava(toy_vlm()).layout.n_layers
        11
    """
    processor = _processor(toy)
    model = LlavaForConditionalGeneration(_config(toy)).float().eval()
    model.requires_grad_(False)
    vlm = VLM(
        "toy", model, processor, find_layout(model, tuple(processor.tokenizer.all_special_ids))
    )
    decoder = {
        name: torch.tensor(array, dtype=torch.float32)
        for name, array in toy.weights.items()
        if name != "lm_head.weight"
    }
    vlm.layout.decoder.load_state_dict(decoder)
    model.lm_head.weight.copy_(torch.tensor(toy.weights["lm_head.weight"]))
    model.generation_config.pad_token_id = toy.token("<pad>")
    model.generation_config.eos_token_id = toy.token("</s>")
    model.set_attn_implementation(attention)
    _plant_vision(vlm, toy)
    return vlm


def toy_items(
    toy: ToyVLM, folder: str | Path, *, images: int = 8, questions_per_image: int = 0
) -> list[Item]:
    """Images of the toy's classes, written as PNG files, with every question about each.

    Args:
        toy: the model that is to be asked.
        folder: where the images go; made if it is not there.
        images: number of images; classes take turns, and a corner pixel makes each one unique.
        questions_per_image: the first so many questions only; 0 asks all.

    Returns:
        Items with the right answers, images in order.

    Raises:
        BridgeError: no images, or more questions than the toy knows.

    Example:
        >>> from theory.systems import toy_vlm
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     items = toy_items(toy_vlm(), folder, images=3)
        >>> [(item.question, item.answer) for item in items[:2]], len(items)
        ([('q0', 'a0'), ('q1', 'a1')], 6)
    """
    m, k = toy.table.shape
    asked = questions_per_image or m
    if images < 1 or not 1 <= asked <= m:
        raise BridgeError(f"{images} images with {asked} of {m} questions: nothing to ask")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(images):
        path = folder / f"{number:04d}.png"
        toy_image(number % k, mark=number).save(path)
        items += [
            Item(path, toy.question(j), toy.answer(j, number % k), path.name) for j in range(asked)
        ]
    return items


def toy_image(c: int, *, mark: int = 0) -> Image.Image:
    """An image of class c: the c-th square of every patch is bright.

    Args:
        c: class, 0 to 15.
        mark: kept in the red and blue of one pixel, so that files of one class differ.

    Returns:
        RGB image of 16 x 16 pixels.

    Example:
        >>> toy_image(3).size
        (16, 16)
    """
    patch = np.zeros((_PATCH, _PATCH), dtype=np.uint8)
    row, column = divmod(c, 4)
    patch[row * _SQUARE : (row + 1) * _SQUARE, column * _SQUARE : (column + 1) * _SQUARE] = _BRIGHT
    pixels = np.tile(patch, (_SIDE // _PATCH, _SIDE // _PATCH))
    made = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    # The tower reads green alone; red and blue hold the mark.
    made.putpixel((0, 0), (mark % 256, int(pixels[0, 0]), mark // 256 % 256))
    return made


def _config(toy: ToyVLM) -> LlavaConfig:
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=_SIDE,
            patch_size=_PATCH,
        ),
        text_config=LlamaConfig(
            hidden_size=toy.width,
            intermediate_size=toy.intermediate,
            num_hidden_layers=toy.n_layers,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=toy.head_dim,
            vocab_size=len(toy.vocabulary),
            rms_norm_eps=toy.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": toy.rope_theta},
            pad_token_id=toy.token("<pad>"),
            eos_token_id=toy.token("</s>"),
            bos_token_id=toy.token("<s>"),
            tie_word_embeddings=False,
        ),
        image_token_id=toy.token("<image>"),
        vision_feature_layer=-1,
        image_seq_length=(_SIDE // _PATCH) ** 2,
        tie_word_embeddings=False,
    )


def _plant_vision(vlm: VLM, toy: ToyVLM) -> None:
    """Make the tower see which square is bright, and solve the projector for the toy's states."""
    base: Any = vlm.layout.base
    tower, projector = base.vision_tower, base.multi_modal_projector
    for name, parameter in tower.named_parameters():
        if not name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layrnorm.weight")):
            parameter.zero_()
    kernel = torch.zeros(16, 3, _PATCH, _PATCH)
    for c in range(16):
        row, column = divmod(c, 4)
        rows = slice(row * _SQUARE, (row + 1) * _SQUARE)
        kernel[c, 1, rows, column * _SQUARE : (column + 1) * _SQUARE] = 1.0 / _SQUARE**2
    patches = next(m for m in tower.modules() if isinstance(m, torch.nn.Conv2d))
    patches.weight.copy_(kernel)
    hidden = projector.linear_1
    hidden.weight.zero_()
    hidden.weight[:16, :16] = torch.eye(16)
    hidden.bias.zero_()
    seen: list[Tensor] = []
    hook = projector.linear_2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pixels = _pixels(vlm, len(toy.vision))
    try:
        base.get_image_features(pixels)
    finally:
        hook.remove()
    activations = seen[0].reshape(len(toy.vision), -1, toy.width)[:, 0].double()
    wanted = torch.tensor(toy.vision)
    projector.linear_2.weight.copy_((torch.linalg.pinv(activations) @ wanted).T)
    projector.linear_2.bias.zero_()
    found: list[Tensor] = []
    hook = projector.register_forward_hook(lambda *args: found.append(args[2]))
    try:
        base.get_image_features(pixels)
    finally:
        hook.remove()
    states = found[0].reshape(len(toy.vision), -1, toy.width)
    error = float((states - wanted.float()[:, None]).abs().max())
    if not error < 1e-4:
        raise BridgeError(f"the projector misses the toy's vision states by {error:.2g}")


def _pixels(vlm: VLM, k: int) -> Tensor:
    images = [toy_image(c) for c in range(k)]
    pixels: Tensor = vlm.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    return pixels


def _processor(toy: ToyVLM) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"height": _SIDE, "width": _SIDE}, do_center_crop=False
        ),
        tokenizer=_tokenizer(toy),
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=_CHAT,
    )


def _tokenizer(toy: ToyVLM) -> PreTrainedTokenizerFast:
    special = [word for word in toy.vocabulary if word.startswith("<")]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    layout = {
        "version": "1.0",
        "added_tokens": [
            {"id": toy.token(word), "content": word, "special": True, **flags} for word in special
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(toy.vocabulary)},
            "unk_token": "<unk>",
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(layout), encoding="utf-8")
        made = PreTrainedTokenizerFast(
            tokenizer_file=str(path), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
    made.add_special_tokens({"additional_special_tokens": ["<image>", "<s>"]})
    return made
