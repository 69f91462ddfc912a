"""Whisper from the weights of CTranslate2, as a standard transformers folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AddedToken,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.files import read_json, write_json
from vlm_bridge.third_party.ctranslate2 import read_ctranslate2
from vlm_bridge.third_party.saving import named, save_model

Variables = dict[str, NDArray[Any]]

#: Settings of the file that hold no weights of transformers' model: how its own runtime computes.
_SETTINGS = {
    *("activation", "alibi", "alignment_heads", "alignment_layer", "num_heads", "pre_norm"),
    *("scale_embeddings", "start_from_zero_embedding"),
}
#: Tokens of the two vocabularies by what they do.
_END, _START, _NO_TIMESTAMPS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
_PREVIOUS, _TASKS = "<|startofprev|>", ("transcribe", "translate")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
#: Seconds of a window, and steps of time in a second.
_WINDOW, _STEPS = 30, 50


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Write model, generation settings and processor.

    Raises:
        BridgeError: the weights are no Whisper in float16 or float32, or lack a tensor.
    """
    parts = sorted(path for name, path in files.items() if ".bin" in Path(name).name)
    variables = read_ctranslate2(parts, "WhisperSpec")
    settings = read_json(named(files, "config.json"), "configuration of Whisper")
    processor = _processor(named(files, "tokenizer.json"), mel_bins(variables))
    model = WhisperForConditionalGeneration(whisper_config(variables, processor.tokenizer))
    model.generation_config = _generation(settings, processor.tokenizer)
    save_model(model, whisper_tensors(variables), folder)
    processor.save_pretrained(folder)


def mel_bins(variables: Variables) -> int:
    """The number of mel bands that the first convolution reads."""
    return int(_variable(variables, "encoder/conv1/weight").shape[1])


def whisper_config(variables: Variables, tokenizer: Any) -> WhisperConfig:
    """The configuration of the model, from the shapes of its weights."""
    vocabulary, width = _variable(variables, "decoder/embeddings/weight").shape
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (_END, _START)}
    sizes: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = _layers(variables, side)
        sizes[f"{side}_attention_heads"] = int(_variable(variables, f"{side}/num_heads"))
        first = _variable(variables, f"{side}/layer_0/ffn/linear_0/weight")
        sizes[f"{side}_ffn_dim"] = int(first.shape[0])
    return WhisperConfig(
        vocab_size=int(vocabulary),
        d_model=int(width),
        num_mel_bins=mel_bins(variables),
        max_source_positions=len(_variable(variables, "encoder/position_encodings/encodings")),
        max_target_positions=len(_variable(variables, "decoder/position_encodings/encodings")),
        decoder_start_token_id=ids[_START],
        bos_token_id=ids[_END],
        eos_token_id=ids[_END],
        pad_token_id=ids[_END],
        suppress_tokens=None,  # these two belong to the generation settings
        begin_suppress_tokens=None,
        **sizes,
    )


def whisper_tensors(variables: Variables) -> dict[str, Tensor]:
    """The weights under transformers' names, in float32; the output layer is tied and left out.

    CTranslate2 stacks query, key and value of self-attention in `linear_0`, and key and value of
    cross-attention in `linear_1`. Whisper's keys have no bias: its rows there must be zero.

    Raises:
        BridgeError: a weight is missing, left over, or no floating-point number.
    """
    left = dict(variables)
    tensors: dict[str, Tensor] = {}

    def take(source: str) -> Tensor:
        array = left.pop(source, None)
        if array is None or array.dtype.kind != "f":
            problem = "is missing" if array is None else f"has the type {array.dtype}"
            raise BridgeError(f"the weight '{source}' of Whisper {problem}")
        return torch.from_numpy(array.astype(np.float32))

    def norm(source: str, target: str) -> None:
        tensors[f"{target}.weight"] = take(f"{source}/gamma")
        tensors[f"{target}.bias"] = take(f"{source}/beta")

    def linear(source: str, *targets: str) -> None:
        """One linear layer, or several stacked by rows."""
        weights = take(f"{source}/weight").chunk(len(targets))
        biases = take(f"{source}/bias").chunk(len(targets))
        for target, weight, bias in zip(targets, weights, biases, strict=True):
            tensors[f"{target}.weight"] = weight.clone()
            if not target.endswith("k_proj"):
                tensors[f"{target}.bias"] = bias.clone()
            elif bias.any():
                raise BridgeError(f"'{source}' of Whisper has a bias of its keys")

    tensors["model.decoder.embed_tokens.weight"] = take("decoder/embeddings/weight")
    left.pop("decoder/projection/weight", None)  # an alias of the embeddings
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            tensors[f"model.encoder.{conv}.{kind}"] = take(f"encoder/{conv}/{kind}")
    for side in ("encoder", "decoder"):
        positions = take(f"{side}/position_encodings/encodings")
        tensors[f"model.{side}.embed_positions.weight"] = positions
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(_layers(variables, side)):
            old, new = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            own = [f"{new}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
            norm(f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
            linear(f"{old}/self_attention/linear_0", *own[:3])
            linear(f"{old}/self_attention/linear_1", own[3])
            if side == "decoder":
                cross = [f"{new}.encoder_attn.{name}_proj" for name in ("q", "k", "v", "out")]
                norm(f"{old}/attention/layer_norm", f"{new}.encoder_attn_layer_norm")
                linear(f"{old}/attention/linear_0", cross[0])
                linear(f"{old}/attention/linear_1", *cross[1:3])
                linear(f"{old}/attention/linear_2", cross[3])
            norm(f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
            linear(f"{old}/ffn/linear_0", f"{new}.fc1")
            linear(f"{old}/ffn/linear_1", f"{new}.fc2")
    if extra := sorted(name for name in left if name.split("/")[-1] not in _SETTINGS):
        raise BridgeError(f"these weights are not Whisper's: {', '.join(extra[:4])}")
    return tensors


def _variable(variables: Variables, name: str) -> NDArray[Any]:
    if name not in variables:
        raise BridgeError(f"the weight '{name}' of Whisper is missing")
    return variables[name]


def _layers(variables: Variables, side: str) -> int:
    """The number of layers of encoder or decoder, which count from 0."""
    found = {
        int(match[1]) for name in variables if (match := re.match(rf"{side}/layer_(\d+)/", name))
    }
    if found != set(range(len(found))) or not found:
        raise BridgeError(f"the {side} of Whisper has the layers {sorted(found)}")
    return len(found)


def _processor(vocabulary: Path, bins: int) -> WhisperProcessor:
    """Feature extractor and tokenizer; the file of the tokenizer lacks the tokens of times."""
    with tempfile.TemporaryDirectory() as aside:
        write_json(Path(aside) / "tokenizer.json", read_json(vocabulary, "tokenizer of Whisper"))
        tokenizer = WhisperTokenizer.from_pretrained(aside, local_files_only=True, pad_token=_END)
    for key in ("is_local", "local_files_only"):  # of this reading, not of the tokenizer
        tokenizer.init_kwargs.pop(key, None)
    times = (f"<|{step / _STEPS:.2f}|>" for step in range(_WINDOW * _STEPS + 1))
    tokenizer.add_tokens([AddedToken(time, special=False, normalized=False) for time in times])
    if _is_multilingual(tokenizer):
        tokenizer.set_prefix_tokens(language="english", task="transcribe")
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=bins), tokenizer)


def _is_multilingual(tokenizer: Any) -> bool:
    """Whether the vocabulary is the one for all languages, whose first tokens are one later."""
    return bool(tokenizer.convert_tokens_to_ids(_END) == 50257)


def _generation(settings: Any, tokenizer: Any) -> GenerationConfig:
    """How `generate` transcribes: the tokens it begins with and those it never chooses."""
    ids = tokenizer.convert_tokens_to_ids
    several = _is_multilingual(tokenizer)
    languages = {token: ids(token) for token in tokenizer.get_vocab() if _LANGUAGE.fullmatch(token)}
    of_all = {
        "lang_to_id": languages,
        "task_to_id": {task: ids(f"<|{task}|>") for task in _TASKS},
        "language": "en",
        "task": "transcribe",
    }
    return GenerationConfig(
        decoder_start_token_id=ids(_START),
        bos_token_id=ids(_END),
        eos_token_id=ids(_END),
        pad_token_id=ids(_END),
        prev_sot_token_id=ids(_PREVIOUS),
        no_timestamps_token_id=ids(_NO_TIMESTAMPS),
        is_multilingual=several,
        return_timestamps=False,
        max_length=448,
        max_initial_timestamp_index=_STEPS,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        **(of_all if several else {}),
    )
