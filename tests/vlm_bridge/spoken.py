"""Tiny recordings, a tiny Whisper and a tiny language model, for a Qwen2-Audio of frozen parts."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from tests.vlm_bridge.families.hearing_processors import RATE, tokenizer
from vlm_bridge.data.recordings_task import SPLITS
from vlm_bridge.data.spoken_words_task import WORDS

BINS, POSITIONS = 8, 32


def extractor() -> WhisperFeatureExtractor:
    """A second of sound has 64 frames, 32 states and 16 tokens."""
    return WhisperFeatureExtractor(
        feature_size=BINS, sampling_rate=RATE, hop_length=250, chunk_length=1, n_fft=400
    )


@lru_cache
def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=20,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=BINS,
        max_source_positions=POSITIONS,
        init_std=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
    )
    return WhisperForConditionalGeneration(config).eval()


def write_whisper(folder: Path) -> Path:
    """The tiny Whisper as a folder."""
    whisper().save_pretrained(folder)
    extractor().save_pretrained(folder)
    return folder


def language_model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer()),
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    llm = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # so that what is attended to decides about the answer
        for name, parameter in llm.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(12 if name == "model.embed_tokens.weight" else 9)
    return llm


def write_prompts(folder: Path, count: int = 120) -> Path:
    """Recordings of 0.3 to 1 s, some with the same words, in the format of `spoken-prompts`."""
    draw = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    names = SPLITS["spoken-prompts"]
    rows, splits = [], {}
    for number in range(count):
        said = sorted(draw.choice(WORDS, 4, replace=False).tolist())
        if number % 10 == 9:  # the same words again, spoken otherwise
            said = rows[-1]["cluster"].split()
        cluster = " ".join(said)
        times = np.arange(int(RATE * draw.uniform(0.3, 1.0))) / RATE
        pitch = 200 + 150 * WORDS.index(said[0])
        noise = 0.02 * draw.normal(size=len(times))
        path = f"audio/{number}.wav"
        tone = np.sin(2 * np.pi * pitch * times) / 3
        wavfile.write(folder / path, RATE, (2**15 * (tone + noise)).astype(np.int16))
        split = splits.setdefault(cluster, names[number % len(names)])
        text = f"{cluster.capitalize()}."
        rows.append({"audio": path, "text": text, "cluster": cluster, "split": split})
    lines = "\n".join(map(json.dumps, rows)) + "\n"
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return folder
