"""A tiny random Llama with a byte-level tokenizer, which GGUF can hold."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from vlm_bridge.model.vlm import VLM

LAYERS = 4


def byte_tokenizer(cut=None, normalizer=None):
    """Byte-level BPE of all bytes, two merges and three special tokens."""
    known = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "re", "red"]
    vocabulary = {token: number for number, token in enumerate(known)}
    core = Tokenizer(models.BPE(vocabulary, [("r", "e"), ("re", "d")]))
    core.pre_tokenizer = cut or pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if normalizer is not None:
        core.normalizer = normalizer
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def tiny_llama(*, tied=True, tokenizer=None, **config):
    """A random Llama with fewer key heads than query heads, and a head width of its own."""
    torch.manual_seed(0)
    own = byte_tokenizer() if tokenizer is None else tokenizer
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(own) + 3,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    }
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3) if parameter.dim() > 1 else parameter.add_(torch.rand_like(parameter))
    return VLM.of("tiny-llama", model, own)
