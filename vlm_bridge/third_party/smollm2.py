"""SmolLM2 from its GGUF file, as a standard transformers folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from vlm_bridge.errors import BridgeError
from vlm_bridge.third_party.saving import named


def convert(files: Mapping[str, Path], folder: Path) -> None:
    """Write the model and its tokenizer, with the chat template of the file."""
    model, tokenizer = read_gguf(named(files, ".gguf"))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_gguf(path: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The language model of a GGUF file, de-quantised to float32, and its tokenizer.

    transformers marks a model read from GGUF as quantised and refuses to save it, so its weights
    are copied into a new `LlamaForCausalLM`.

    Raises:
        BridgeError: a tensor of the model is missing in the file, or one is left over.
    """
    local = {"gguf_file": path.name, "local_files_only": True}
    quantised, info = LlamaForCausalLM.from_pretrained(
        path.parent, output_loading_info=True, **local
    )
    if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]} - {"lm_head.weight"}):
        raise BridgeError(f"{path.name} lacks or adds tensors of the model: {', '.join(wrong[:4])}")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **local)
    config = quantised.config
    del config.quantization_config
    fresh = LlamaForCausalLM(config).to(torch.float32)
    fresh.load_state_dict(quantised.state_dict())
    fresh.tie_weights()
    return fresh.eval(), tokenizer
