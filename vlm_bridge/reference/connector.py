"""A LLaVA of frozen third-party parts: MobileNetV2, one linear connector, a language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MobileNetV2ForImageClassification,
    PreTrainedTokenizerBase,
)

from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.reference.assemble import CHAT_TEMPLATE, IMAGE_TOKEN, around
from vlm_bridge.reference.language_model import language_model
from vlm_bridge.reference.mobilenet_tokens import MobileNetTokens, MobileNetTokensConfig
from vlm_bridge.reference.recipe import ConnectorRecipe, PhotosRecipe
from vlm_bridge.third_party.folders import model_folder
from vlm_bridge.third_party.mobilenet_v2 import IMAGENET

_PLAIN = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}Photo: <image>\n{% else %}Question: {{ part['text'] }}\n"
    "Answer:{% endif %}{% endfor %}{% endfor %}"
)
#: wording -> (chat template, what precedes an answer).
WORDINGS = {"plain": (_PLAIN, " "), "chat": (CHAT_TEMPLATE, "")}


def blank_connector(recipe: PhotosRecipe) -> tuple[LlavaForConditionalGeneration, Any]:
    """The LLaVA of a recipe with a random, seeded connector, and its processor.

    The connector is LLaVA's own projector with the identity as activation and as second layer.

    Raises:
        BridgeError: a part is missing, or the language model does not know the recipe's wording.
    """
    llm, tokenizer = frozen_language_model(recipe)
    processor = build_processor(tokenizer, recipe)
    torch.manual_seed(recipe.seed)
    tower = read_tower(model_folder(recipe.tower))
    image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    return build_llava(llm, tower, image_token_id, recipe), processor


def frozen_language_model(recipe: ConnectorRecipe) -> tuple[Any, PreTrainedTokenizerBase]:
    """The language model of a recipe in float32, and its tokenizer.

    Raises:
        BridgeError: it is missing, or does not know the recipe's wording.
    """
    llm, tokenizer = _read(recipe.language_model) if recipe.language_model else language_model()
    if recipe.wording == "chat" and "<|im_start|>" not in tokenizer.get_vocab():
        raise BridgeError(
            f"{recipe.language_model} has no token <|im_start|> of the wording 'chat'; "
            "use the wording 'plain'"
        )
    return llm, tokenizer


def _read(folder: str) -> tuple[Any, PreTrainedTokenizerBase]:
    if not (Path(folder) / "config.json").is_file():
        raise BridgeError(f"no language model at {folder}: it has no config.json")
    try:
        llm = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        return llm.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        why = first_line(error)
        raise BridgeError(f"cannot load the language model {folder}: {why}") from None


def read_tower(folder: Path) -> MobileNetTokens:
    """The tower in a folder of a MobileNetV2 that classifies images."""
    classifier = MobileNetV2ForImageClassification.from_pretrained(folder, use_safetensors=True)
    body = classifier.mobilenet_v2
    settings = body.config.to_diff_dict()
    settings.pop("model_type", None)
    settings["hidden_size"] = body.conv_1x1.convolution.out_channels
    for name in ("architectures", "id2label", "label2id", "transformers_version", "dtype"):
        settings.pop(name, None)
    tower: MobileNetTokens = MobileNetTokens(MobileNetTokensConfig(**settings))
    tower.load_state_dict(body.state_dict())
    tower.eval()
    return tower


def build_processor(tokenizer: PreTrainedTokenizerBase, recipe: PhotosRecipe) -> LlavaProcessor:
    """The processor: photos of the recipe's size, tokenizer with `<image>`, and chat template."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    mean, std = IMAGENET
    images = CLIPImageProcessorPil(
        size={"height": recipe.image_size, "width": recipe.image_size},
        do_center_crop=False,
        image_mean=mean,
        image_std=std,
        resample=3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=recipe.patch_size,
        vision_feature_select_strategy="full",
        image_token=IMAGE_TOKEN,
        chat_template=WORDINGS[recipe.wording][0],
    )


def build_llava(
    llm: Any, tower: MobileNetTokens, image_token_id: int, recipe: PhotosRecipe
) -> LlavaForConditionalGeneration:
    """A standard LLaVA around a tower and a language model, in float32."""
    model = around(
        llm,
        image_token_id,
        vision_config=tower.config,
        vision_feature_select_strategy="full",
        image_seq_length=recipe.vision_tokens,
        projector_hidden_act="linear",
    )
    model.model.vision_tower.load_state_dict(tower.state_dict())
    _second_is_identity(model)
    return model


@torch.no_grad()
def install_connector(model: LlavaForConditionalGeneration, parts: Mapping[str, Tensor]) -> None:
    """Load the trained connector, `connector.weight` and `connector.bias`."""
    own = {name.removeprefix("connector."): part for name, part in parts.items()}
    model.model.multi_modal_projector.linear_1.load_state_dict(own)
    _second_is_identity(model)


@torch.no_grad()
def _second_is_identity(model: LlavaForConditionalGeneration) -> None:
    second = model.model.multi_modal_projector.linear_2
    torch.nn.init.eye_(second.weight)
    second.bias.zero_()
