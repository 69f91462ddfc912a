"""What answers depend on beside the model: how it generates, and how prompts are made."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from vlm_bridge.errors import BridgeError

#: Settings of a `generation_config` under which answers are not greedy, end by the clock, or need
#: more than the model; each with the values that do no harm.
_NOT_GREEDY: dict[str, tuple[Any, ...]] = {
    "num_return_sequences": (None, 1),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "max_time": (None,),
    "stop_strings": (None,),
    "token_healing": (None, False),
    "is_assistant": (None, False),
    "cache_implementation": (None, "dynamic", "static", "hybrid", "sliding_window"),
}
#: Tokenizer -> its size and the hash of its vocabulary and rules.
_tokenizers: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()


def check_greedy(name: str, model: nn.Module) -> None:
    """Raise a `BridgeError` if the model's `generation_config` asks for other than greedy answers.

    Sampling and beams are switched off by who asks; what cannot be switched off is refused.
    """
    config = getattr(model, "generation_config", None)
    for setting, harmless in _NOT_GREEDY.items():
        value = getattr(config, setting, None)
        if value not in harmless:
            raise BridgeError(
                f"the generation_config of {name} sets {setting}={value!r}, with which answers are "
                f"not greedy and complete; set model.generation_config.{setting} to {harmless[0]}"
            )


def generation_settings(model: nn.Module) -> dict[str, Any]:
    """The model's `generation_config` where it differs from the defaults, without versions."""
    config = getattr(model, "generation_config", None)
    stored = {} if config is None else config.to_diff_dict()
    return {k: v for k, v in stored.items() if k[0] != "_" and k != "transformers_version"}


def processor_settings(processor: Any) -> list[Any]:
    """Tokenizer, chat templates, and settings of the image processor."""
    if processor is None:
        return []
    tokenizer = getattr(processor, "tokenizer", processor)
    settings = processor.to_dict() if hasattr(processor, "to_dict") else {}
    templates = [getattr(part, "chat_template", None) for part in (processor, tokenizer)]
    return [type(processor).__name__, settings, templates, _tokenizer_hash(tokenizer)]


def _tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of vocabulary and rules, without padding and truncation, which every call sets."""
    size, known = _tokenizers.get(tokenizer, (-1, ""))
    if size == len(tokenizer):
        return known
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = tokenizer.get_vocab()
    else:
        rules = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
    _tokenizers[tokenizer] = (len(tokenizer), digest)
    return digest
