"""Real processors around a word tokenizer, for tiny models with its vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    DeepseekVLImageProcessorPil,
    DeepseekVLProcessor,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
)
from transformers.models.paligemma.processing_paligemma import PaliGemmaProcessor

from tests.vlm_bridge.families import configs
from tests.vlm_bridge.families.configs import SIDE
from tests.vlm_bridge.families.table import build
from tests.vlm_bridge.tiny import WORDS
from vlm_bridge.model.layout import find_layout
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.processors import images_only

#: What a chat template writes for an image.
_CHAT = (
    "{{% for m in messages %}}user : {{% for p in m['content'] %}}"
    "{{% if p['type'] == 'image' %}}{} {{% else %}}{{{{ p['text'] }}}}{{% endif %}}{{% endfor %}}"
    "{{% endfor %}}"
)


def _tokenizer(image: str, *special: str, **named: str) -> PreTrainedTokenizerFast:
    """Words and special tokens; the image's placeholder has the id the models expect."""
    first = ["<pad>", "<eos>", "<unk>", image, *special]
    vocabulary = {word: number for number, word in enumerate([*first, *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=named,
    )
    made.add_special_tokens({"additional_special_tokens": [image, *special]})
    return made


def llava() -> Any:
    images = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=_tokenizer("<image>"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT.format("<image>"),
    )


def llava_next() -> Any:
    """A thumbnail and a tile of every image, and a token at the end of every row of the tile."""
    size = {"height": SIDE, "width": SIDE}
    images = LlavaNextImageProcessorPil(
        size=size, crop_size=size, image_grid_pinpoints=configs.PINPOINTS
    )
    return LlavaNextProcessor(
        image_processor=images,
        tokenizer=_tokenizer("<image>"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT.format("<image>"),
    )


def deepseek_vl() -> Any:
    return DeepseekVLProcessor(
        image_processor=DeepseekVLImageProcessorPil(
            size={"height": SIDE, "width": SIDE}, min_size=1
        ),
        tokenizer=_tokenizer("<image>", image_token="<image>"),
        num_image_tokens=4,
        chat_template=_CHAT.format("<image>"),
    )


def qwen2_5_vl() -> Any:
    area = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=area)
    return images_only(Qwen2_5_VLProcessor)(
        image_processor=images,
        tokenizer=_tokenizer("<|image_pad|>", "<|video_pad|>"),
        chat_template=_CHAT.format("<|image_pad|>"),
    )


def smolvlm() -> Any:
    """As `load` finds it without torchvision: the image half, which is that of Idefics3."""
    edge = {"longest_edge": SIDE}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    special = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    return Idefics3Processor(
        image_processor=images,
        tokenizer=_tokenizer("<image>", *special),
        image_seq_len=4,
        chat_template=_CHAT.format("<image>"),
    )


def gemma3() -> Any:
    named = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"}
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer=_tokenizer("<image>", "<boi>", "<eoi>", **named),
        image_seq_length=4,
        chat_template=_CHAT.format("<boi>"),
    )


def paligemma() -> Any:
    """No chat template: a base model."""
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 4
    tokenizer = _tokenizer("<image>", "<bos>", image_token="<image>")
    tokenizer.bos_token = "<bos>"
    return PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)


#: family -> (processor, configuration of its tiny model).
PROCESSORS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "LLaVA": (llava, configs.llava),
    "LLaVA-NeXT": (llava_next, configs.llava_next),
    "DeepSeek-VL": (deepseek_vl, configs.deepseek_vl),
    "Qwen2.5-VL": (qwen2_5_vl, configs.qwen2_5_vl),
    "SmolVLM": (smolvlm, configs.smolvlm),
    "Gemma3": (gemma3, configs.gemma3),
}


def with_processor(name: str) -> VLM:
    """A tiny model with its real processor."""
    processor, config = PROCESSORS[name]
    made = processor()
    special = tuple(made.tokenizer.all_special_ids)
    model = build(config)
    return VLM(f"tiny {name}", model, made, find_layout(model, special))
