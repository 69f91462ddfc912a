"""A tiny Whisper in the file format of CTranslate2, with a tokenizer file of Whisper's kind."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

#: Tokens that are words, so that the tokens with a meaning begin where Whisper's do.
ENGLISH, MULTILINGUAL = 50256, 50257
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>"]
SPECIAL += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"]
SPECIAL += ["<|notimestamps|>"]
SETTINGS = {
    "suppress_ids": [1, 2],
    "suppress_ids_begin": [3],
    "alignment_heads": [[0, 0]],
    "lang_ids": [],
}


def tokenizer_json(first: int) -> str:
    """The text of a tokenizer file with `first` plain tokens."""
    added = [
        {
            "id": first + number,
            "content": token,
            "special": True,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for number, token in enumerate(SPECIAL)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    vocabulary = {f"w{number}": number for number in range(first)}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {**level, "use_regex": True},
            "post_processor": None,
            "decoder": {**level, "use_regex": True},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }
    )


def tiny_whisper(first: int) -> WhisperForConditionalGeneration:
    """A random Whisper of two layers whose vocabulary has the tokens of times, too."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=first + len(SPECIAL) + 1501,
        d_model=8,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=12,
        decoder_ffn_dim=20,
        num_mel_bins=80,
        init_std=0.3,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def variables_of(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray[Any, Any]]:
    """The weights under the names of CTranslate2, float16."""
    state, config = model.state_dict(), model.config
    found: dict[str, np.ndarray[Any, Any]] = {}

    def put(name: str, *sources: str) -> None:
        parts = []
        for source in sources:
            missing = torch.zeros(config.d_model)  # keys have no bias
            parts.append(state.get(f"model.{source}", missing))
        found[name] = torch.cat(parts).numpy().astype("<f2")

    def both(name: str, *sources: str, ends: tuple[str, str] = ("weight", "bias")) -> None:
        for end, kind in zip(ends, ("weight", "bias"), strict=True):
            put(f"{name}/{end}", *(f"{source}.{kind}" for source in sources))

    def norm(name: str, source: str) -> None:
        both(name, source, ends=("gamma", "beta"))

    put("decoder/embeddings/weight", "decoder.embed_tokens.weight")
    for conv in ("conv1", "conv2"):
        both(f"encoder/{conv}", f"encoder.{conv}")
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        heads = getattr(config, f"{side}_attention_heads")
        found[f"{side}/num_heads"] = np.array(heads, "<i2")
        put(f"{side}/position_encodings/encodings", f"{side}.embed_positions.weight")
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for layer in range(layers):
            old, new = f"{side}.layers.{layer}", f"{side}/layer_{layer}"
            own, cross = f"{old}.self_attn", f"{old}.encoder_attn"
            norm(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm")
            both(f"{new}/self_attention/linear_0", *(f"{own}.{x}_proj" for x in "qkv"))
            both(f"{new}/self_attention/linear_1", f"{own}.out_proj")
            if side == "decoder":
                norm(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm")
                both(f"{new}/attention/linear_0", f"{cross}.q_proj")
                both(f"{new}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                both(f"{new}/attention/linear_2", f"{cross}.out_proj")
            norm(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm")
            both(f"{new}/ffn/linear_0", f"{old}.fc1")
            both(f"{new}/ffn/linear_1", f"{old}.fc2")
    found["decoder/activation"] = np.array(3, "i1")
    return found


def ctranslate2_bytes(
    variables: Mapping[str, np.ndarray[Any, Any]],
    aliases: Mapping[str, str] | None = None,
    spec: str = "WhisperSpec",
) -> bytes:
    """A weights file of version 6."""
    numbers = {"<f4": 0, "|i1": 1, "<i2": 2, "<i4": 3, "<f2": 4}

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    data = struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        data += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", numbers[array.dtype.str], array.nbytes) + array.tobytes()
    data += struct.pack("<I", len(aliases or {}))
    return data + b"".join(text(alias) + text(name) for alias, name in (aliases or {}).items())


def package_files(first: int) -> dict[str, bytes]:
    """What a package of Whisper holds: weights in two parts, settings and tokenizer."""
    weights = ctranslate2_bytes(
        variables_of(tiny_whisper(first)),
        {"decoder/projection/weight": "decoder/embeddings/weight"},
    )
    half = len(weights) // 2
    return {
        "tiny/model.bin.part1": weights[:half],
        "tiny/model.bin.part2": weights[half:],
        "tiny/config.json": json.dumps(SETTINGS).encode(),
        "tiny/tokenizer.json": tokenizer_json(first).encode(),
    }


def write_files(folder: Path, first: int) -> dict[str, Path]:
    """Write these files; path in the package -> path on disk."""
    paths = {}
    for name, data in package_files(first).items():
        paths[name] = folder / Path(name).name
        paths[name].write_bytes(data)
    return paths
