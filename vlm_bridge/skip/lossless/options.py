"""Which arguments of `model.generate` generation with a draft honours; the others are refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig, GenerationMixin

from vlm_bridge.errors import BridgeError, shown

#: Arguments of `generate_lossless` itself.
OF_LOSSLESS = (
    "draft_tokens",
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "generator",
    "streamer",
)
#: What alters scores alone, by the tokens before, or says when an answer ends: draft and full model
#: obey it alike.
HONOURED = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "logits_processor",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "pad_token_id",
    "prefix_allowed_tokens_fn",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
    "top_h",
    "typical_p",
)
#: Settings that are not honoured, with the values that change nothing; None is
#: such too, and False but for `use_cache`.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "cache_implementation": ("dynamic",),
    "disable_compile": (True,),
    "diversity_penalty": (0.0,),
    "guidance_scale": (1.0,),
    "length_penalty": (1.0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0.0,),
    "use_cache": (True,),
}
#: Names of a `generation_config` that are no settings.
_NOTES = ("_from_model_config", "transformers_version")


def options_of(
    inputs: Mapping[str, Any], verb: str = "generate_lossless", own: tuple[str, ...] = OF_LOSSLESS
) -> dict[str, Any]:
    """The arguments of `inputs` that `model.generate` is given: the model's, and `HONOURED` ones.

    Raises:
        BridgeError: one of `own`, the arguments of the function `verb` itself, among them; or a
            setting, there or in their `generation_config`, that changes answers in a way that a
            draft cannot follow.

    Example:
        >>> options_of({"repetition_penalty": 1.2, "num_beams": 1})
        {'repetition_penalty': 1.2}
        >>> options_of({"max_time": 3.0})
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: inputs sets max_time=3.0, which a draft ...
    """
    for name in own:
        if name in inputs:
            raise BridgeError(
                f"inputs holds {name}; pass it as an argument: {verb}(..., {name}=...)"
            )
    config = inputs.get("generation_config")
    if config is not None:
        if not isinstance(config, GenerationConfig):
            raise BridgeError(f"generation_config must be a GenerationConfig, got {shown(config)}")
        _check(config.to_dict(), "the generation_config in inputs", own)
    settings = _check(inputs, "inputs", own)
    return {name: value for name, value in inputs.items() if name not in settings}


def _check(given: Mapping[str, Any], where: str, own: tuple[str, ...]) -> set[str]:
    """The settings that are not honoured, after a `BridgeError` for one that is no harmless one."""
    parameters = set(inspect.signature(GenerationMixin.generate).parameters)
    settings = set(GenerationConfig().to_dict()) | (parameters - {"generation_config"})
    settings -= {*HONOURED, *_NOTES}
    for name in sorted(settings & set(given)):
        value = given[name]
        if not changes_nothing(name, value):
            hint = "pass it as an argument" if name in own else "leave it out"
            raise BridgeError(
                f"{where} sets {name}={shown(value)}, which a draft cannot follow; {hint}"
            )
    return settings


def changes_nothing(name: str, value: object) -> bool:
    """Whether a setting of `generate` has a value with which greedy answers are as without it.

    Example:
        >>> changes_nothing("num_beams", 1), changes_nothing("num_beams", 2)
        (True, False)
    """
    off = value is False and name != "use_cache"
    nothing = value is None or off or (isinstance(value, list) and not value)
    plain = isinstance(value, int | float | str) and value in _HARMLESS.get(name, ())
    return nothing or plain
