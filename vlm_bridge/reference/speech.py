"""A Qwen2-Audio of frozen third-party parts: Whisper's encoder, one linear layer, a language model.

The encoder of Qwen2-Audio is Whisper's, with every two neighbouring states averaged before the last
layer norm: 25 audio tokens a second of sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2AudioConfig,
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from vlm_bridge.reference.assemble import add_placeholder, section, with_language_model
from vlm_bridge.reference.connector import WORDINGS, frozen_language_model
from vlm_bridge.reference.recipe import SpeechRecipe
from vlm_bridge.third_party.folders import model_folder

AUDIO_TOKEN = "<|AUDIO|>"
#: What the encoder takes over from the configuration of Whisper.
_SETTINGS = (
    "num_mel_bins",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "d_model",
    "activation_function",
    "scale_embedding",
    "max_source_positions",
)


def blank_speech(
    recipe: SpeechRecipe,
) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """The Qwen2-Audio of a recipe with a random, seeded connector, and its processor.

    Raises:
        BridgeError: a part is missing, or the language model does not know the recipe's wording.
    """
    llm, tokenizer = frozen_language_model(recipe)
    folder = model_folder(recipe.tower)
    extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
    processor = build_speech_processor(tokenizer, extractor, recipe.wording)
    torch.manual_seed(recipe.seed)
    return build_speech(llm, read_speech_tower(folder), processor.audio_token_id), processor


def read_speech_tower(folder: Path) -> Qwen2AudioEncoder:
    """The encoder in a folder of a Whisper, as that of a Qwen2-Audio."""
    whisper = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    settings = {name: getattr(whisper.config, name) for name in _SETTINGS}
    tower = Qwen2AudioEncoder(Qwen2AudioEncoderConfig(**settings))
    tower.load_state_dict(whisper.model.encoder.state_dict())
    return tower.eval()


def build_speech_processor(
    tokenizer: PreTrainedTokenizerBase, extractor: WhisperFeatureExtractor, wording: str
) -> Qwen2AudioProcessor:
    """The processor: Whisper's features, tokenizer with `<|AUDIO|>`, and chat template."""
    tokenizer.add_special_tokens({"additional_special_tokens": [AUDIO_TOKEN]})
    template = (
        WORDINGS[wording][0]
        .replace("== 'image'", "== 'audio'")
        .replace("Photo: ", "Recording: ")
        .replace("<image>", AUDIO_TOKEN)
    )
    return Qwen2AudioProcessor(extractor, tokenizer, template, audio_token=AUDIO_TOKEN)


def build_speech(
    llm: Any, tower: Qwen2AudioEncoder, audio_token_id: int
) -> Qwen2AudioForConditionalGeneration:
    """A standard Qwen2-Audio around a tower and a language model, in float32."""
    add_placeholder(llm, audio_token_id)
    config = Qwen2AudioConfig(
        audio_config=tower.config, text_config=llm.config, audio_token_index=audio_token_id
    )
    model = with_language_model(Qwen2AudioForConditionalGeneration(config), llm)
    model.model.audio_tower.load_state_dict(tower.state_dict())
    return model


@torch.no_grad()
def install_speech(model: Qwen2AudioForConditionalGeneration, parts: Mapping[str, Tensor]) -> None:
    """Load the trained connector, `connector.weight` and `connector.bias`."""
    model.model.multi_modal_projector.linear.load_state_dict(section(parts, "connector"))
