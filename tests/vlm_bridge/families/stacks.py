"""Tiny models with four layers in every encoder, their inputs, and plans of every stack."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedConfig,
    PreTrainedModel,
)

from tests.vlm_bridge.families import configs
from tests.vlm_bridge.families.configs import EOS, PAD, UNK, VOCABULARY
from tests.vlm_bridge.families.inputs import batch
from tests.vlm_bridge.families.table import AUDIO_FAMILY, FAMILIES, Family
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan

L = 4
#: Names of a configuration's number of encoder layers.
_DEPTHS = ("num_hidden_layers", "depth", "encoder_layers")
_MEL = {"num_mel_bins": 8, "max_source_positions": 8}
_BOTH = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": L,
    "decoder_layers": L,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "pad_token_id": PAD,
    "bos_token_id": UNK,
    "eos_token_id": EOS,
    "decoder_start_token_id": UNK,
    "forced_eos_token_id": None,
}


def deep(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration with four layers in its tower."""
    tower = getattr(config, "vision_config", None) or config.audio_config
    for name in _DEPTHS:
        if name in vars(tower):
            setattr(tower, name, L)
    return config


def voxtral() -> PreTrainedConfig:
    audio = {"hidden_size": 16, "intermediate_size": 64, "num_attention_heads": 2, **_MEL}
    return AutoConfig.for_model(
        "voxtral",
        text_config=configs.text("llama"),
        audio_config={**audio, "num_hidden_layers": L, "head_dim": 8},
        audio_token_id=configs.AUDIO,
    )


def whisper() -> PreTrainedConfig:
    no_rules = {"suppress_tokens": None, "begin_suppress_tokens": None}
    return AutoConfig.for_model("whisper", **_BOTH, **_MEL, **no_rules, max_target_positions=24)


def text_to_text(kind: str) -> PreTrainedConfig:
    return AutoConfig.for_model(kind, **_BOTH, max_position_embeddings=32, forced_bos_token_id=None)


@lru_cache
def model(name: str) -> PreTrainedModel:
    """The random model of a name, with weights so large that a wrong mask or cache shows."""
    torch.manual_seed(0)
    if name == "Whisper":
        made = AutoModelForSpeechSeq2Seq.from_config(whisper())
    elif name in ("BART", "mBART"):
        made = AutoModelForSeq2SeqLM.from_config(text_to_text(name.lower()))
    else:
        of = {"Voxtral": voxtral, "Qwen2-Audio": configs.qwen2_audio}
        config = of[name] if name in of else FAMILIES[name].config
        made = AutoModelForMultimodalLM.from_config(deep(config()))
    made = made.float().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                if not parameter.any():
                    parameter.normal_(std=0.02)
                parameter.mul_(6.0)
    made.generation_config.pad_token_id = PAD
    made.generation_config.eos_token_id = None
    return made


@dataclass(frozen=True)
class StackCase:
    """A model, one of its stacks, and the inputs of one sequence or of a padded batch."""

    name: str
    stack: str

    @property
    def vlm(self) -> VLM:
        return VLM.of(self.name, model(self.name), None)

    def inputs(self, n: int) -> dict[str, Tensor]:
        """Inputs of `n` sequences, the shorter of which are padded."""
        draw = torch.Generator().manual_seed(n)
        if self.name == "Whisper":
            return {"input_features": torch.randn(n, 8, 16, generator=draw)}
        if self.name in ("BART", "mBART"):
            ids = torch.randint(8, VOCABULARY, (n, 7), generator=draw)
            mask = torch.ones_like(ids)
            mask[1:, 5:] = 0
            return {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}
        prompts = ("ttItttt", "tIt", "Itt")[:n]
        if self.name in ("Qwen2-Audio", "Voxtral"):
            tokens = {"Voxtral": 2}.get(self.name, AUDIO_FAMILY.tokens)
            family = Family(AUDIO_FAMILY.config, tokens=tokens, audio=(8, 16))
            made = batch(family, prompts)
            if self.name == "Voxtral":
                made.pop("feature_attention_mask")
            return made
        return batch(FAMILIES[self.name], prompts)

    def decoder_ids(self, n: int, length: int = 6) -> dict[str, Tensor]:
        """What an encoder-decoder's decoder continues; nothing for other models."""
        if not self.vlm.layout.encoder_decoder:
            return {}
        draw = torch.Generator().manual_seed(7)
        ids = torch.randint(8, VOCABULARY, (n, length), generator=draw)
        return {"decoder_input_ids": ids}


CASES = [
    StackCase("LLaVA", "vision"),
    StackCase("Qwen2.5-VL", "vision"),
    StackCase("Qwen3-VL", "vision"),
    StackCase("SmolVLM", "vision"),
    StackCase("InternVL", "vision"),
    StackCase("PaliGemma", "vision"),
    StackCase("Qwen2-Audio", "audio"),
    StackCase("Voxtral", "audio"),
    StackCase("Whisper", "audio"),
    StackCase("Whisper", "decoder"),
    StackCase("mBART", "encoder"),
    StackCase("mBART", "decoder"),
    StackCase("BART", "encoder"),
    StackCase("BART", "decoder"),
]


def plans_of(stack: str) -> list[SkipPlan]:
    return [
        SkipPlan("block", L, layers=(0,), stack=stack),
        SkipPlan("block", L, layers=(1, 3), stack=stack),
        SkipPlan("block", L, layers=(0, 1, 2, 3), stack=stack),
        SkipPlan("sublayer", L, attention=(0, 2), stack=stack),
        SkipPlan("sublayer", L, mlp=(0, 3), stack=stack),
        SkipPlan("sublayer", L, attention=(1,), mlp=(1, 2), stack=stack),
        SkipPlan.compose(
            SkipPlan("block", L, layers=(2,), stack=stack),
            SkipPlan("sublayer", L, attention=(0,), mlp=(3,), stack=stack),
        ),
    ]


def _identity(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    return hidden_states


def by_hand(case: StackCase, plan: SkipPlan) -> VLM:
    """A copy whose blocked layers are the identity, and whose skipped sublayers end in zeros."""
    vlm = VLM.of(case.name, copy.deepcopy(model(case.name)), None)
    layers = vlm.layout.stack(case.stack).layers
    with torch.no_grad():
        for names, skipped in ((_ATTENTION_ENDS, plan.attention), (_MLP_ENDS, plan.mlp)):
            for index in skipped:
                end = next(filter(None, (_at(layers[index], name) for name in names)))
                end.weight.zero_()
                if end.bias is not None:
                    end.bias.zero_()
    for index in plan.layers:
        layers[index].forward = _identity
    return vlm


_ATTENTION_ENDS = (
    "self_attn.out_proj",
    "self_attn.o_proj",
    "attn.proj",
    "attention.projection_layer",
)
_MLP_ENDS = ("mlp.fc2", "fc2", "mlp.down_proj", "mlp.linear_fc2")


def _at(layer: nn.Module, path: str) -> nn.Module | None:
    return dict(layer.named_modules()).get(path)
