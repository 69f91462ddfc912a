"""The toy VLM of `theory.systems`, with a known truth, as a real LLaVA; images and questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
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
from vlm_bridge.model.vlm import VLM

_SIDE, _PATCH = 16, 8
#: A patch is a board of 4 x 4 squares; the place of the bright one is the class of the image.
_SQUARE = _PATCH // 4
_CHAT = (
    "{% for m in messages %}<s>{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %} <image>{% else %} {{ p['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}"
)


def toy_llava(toy: ToyVLM, *, attention: str = "sdpa") -> VLM:
    """Load a toy VLM into a real `LlavaForConditionalGeneration`, in float32 on the CPU.

    The Llama decoder has the weights of the toy. The vision tower (CLIP, encoder layers that add
    nothing) detects which square of a patch is bright, and the projector is solved so that an
    image of class c enters the decoder as `toy.vision[c]`, in float32 accuracy.

    Args:
        toy: from `theory.systems.toy_vlm`.
        attention: `sdpa` or `eager`.

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
    vlm = VLM.of("toy", model, processor)
    weights = {name: torch.tensor(array).float() for name, array in toy.weights.items()}
    model.lm_head.weight.copy_(weights.pop("lm_head.weight"))
    vlm.layout.decoder.load_state_dict(weights)
    model.generation_config.pad_token_id = toy.token("<pad>")
    model.generation_config.eos_token_id = toy.token("</s>")
    model.set_attn_implementation(attention)
    _plant_vision(vlm, toy)
    return vlm


def toy_items(
    toy: ToyVLM, folder: str | Path, *, images: int = 8, questions_per_image: int = 0
) -> list[Item]:
    """Questions with their right answers about images of the toy's classes, ordered by image.

    Args:
        toy: the model that will be asked.
        folder: written to; created if missing.
        images: number of PNG files; classes take turns, and a corner pixel makes each unique.
        questions_per_image: how many of the questions to ask, from the first; 0 asks all.

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
        pairs = [(toy.question(j), toy.answer(j, number % k)) for j in range(asked)]
        items += [Item(path, *pair, path.name) for pair in pairs]
    return items


def toy_image(c: int, *, mark: int = 0) -> Image.Image:
    """A 16 x 16 RGB image of class c, 0 to 15: the c-th square of every patch is bright.

    `mark` is stored in the red and blue of one pixel, so that images of one class differ.

    Example:
        >>> toy_image(3).size
        (16, 16)
    """
    patch = np.zeros((_PATCH, _PATCH), dtype=np.uint8)
    row, column = divmod(c, 4)
    patch[row * _SQUARE : (row + 1) * _SQUARE, column * _SQUARE : (column + 1) * _SQUARE] = 255
    pixels = np.tile(patch, (_SIDE // _PATCH, _SIDE // _PATCH))
    image = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    # The tower reads green alone; red and blue hold the mark.
    image.putpixel((0, 0), (mark % 256, int(pixels[0, 0]), mark // 256 % 256))
    return image


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
    """Make the tower detect the bright square, and solve the projector for the toy's states."""
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
    images = [toy_image(c) for c in range(len(toy.vision))]
    pixels: Tensor = vlm.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    calls: list[tuple[Tensor, Tensor]] = []
    target = torch.tensor(toy.vision)
    solved = projector.linear_2
    hook = solved.register_forward_hook(lambda _, args, output: calls.append((args[0], output)))
    try:
        base.get_image_features(pixels)
        activations = calls[0][0].reshape(len(target), -1, toy.width)[:, 0].double()
        solved.weight.copy_((torch.linalg.pinv(activations) @ target).T)
        solved.bias.zero_()
        base.get_image_features(pixels)
    finally:
        hook.remove()
    states = calls[1][1].reshape(len(target), -1, toy.width)
    error = float((states - target.float()[:, None]).abs().max())
    if not error < 1e-4:
        raise BridgeError(f"the projector misses the toy's vision states by {error:.2g}")


def _processor(toy: ToyVLM) -> LlavaProcessor:
    size = {"height": _SIDE, "width": _SIDE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, do_center_crop=False),
        tokenizer=_tokenizer(toy),
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=_CHAT,
    )


def _tokenizer(toy: ToyVLM) -> PreTrainedTokenizerFast:
    ids = {word: number for number, word in enumerate(toy.vocabulary)}
    core = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([word for word in toy.vocabulary if word.startswith("<")])
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<s>"]})
    return tokenizer
