"""What a call of `model.generate` asks of an adaptive plan; the rest is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import GenerationMixin

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.evaluate.answers import check_max_new_tokens, end_ids
from vlm_bridge.model.settings import check_greedy
from vlm_bridge.model.vlm import VLM
from vlm_bridge.skip.lossless.options import changes_nothing

#: Arguments of a pass that are no prompt: caches, embedded prompts, what to return.
_NO_PROMPT = {
    "cache_position",
    "inputs_embeds",
    "labels",
    "logits_to_keep",
    "output_attentions",
    "output_hidden_states",
    "past_key_values",
    "position_ids",
    "return_dict",
    "use_cache",
}
#: Settings of a `generation_config` that a call may switch off, with harmless values.
_NOT_GREEDY: dict[str, tuple[Any, ...]] = {"do_sample": (None, False), "num_beams": (None, 1)}
#: What `generate` can return beside tokens, for every step of one model.
_OF_STEPS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
_HINT = (
    "an adaptive plan judges whole greedy answers, and each row may be another model's. Inside the "
    "block only vlm.model.generate answers, with tokens alone: leave it out, use a SkipPlan, or "
    "ask questions outside the block, by vb.adaptive_answers(vlm, items, plan)"
)


@dataclass(frozen=True)
class GenerateCall:
    """A call of `generate`, checked.

    Attributes:
        inputs: of the model, with input_ids (rows, length).
        max_new_tokens: longest answer.
        as_dict: whether the caller wants an output object, in place of the tokens alone.
    """

    inputs: dict[str, Tensor]
    max_new_tokens: int
    as_dict: bool

    @classmethod
    def read(cls, vlm: VLM, args: Sequence[Any], kwargs: Mapping[str, Any]) -> GenerateCall:
        """Read the arguments of `generate`, before anything is computed.

        Raises:
            BridgeError: no input_ids; no `max_new_tokens`; sampling, beams, a streamer, an
                assistant, a cache, criteria, processors, or any other argument that changes greedy
                answers or asks for more than tokens.
        """
        given = _by_name(args, kwargs)
        config: Any = vlm.model.generation_config
        check_greedy(vlm.name, vlm.model)
        for name, harmless in _NOT_GREEDY.items():
            if name not in given and getattr(config, name, None) not in harmless:
                value = getattr(config, name)
                raise BridgeError(
                    f"the generation_config of {vlm.name} sets {name}={shown(value)}; pass "
                    f"{name}={harmless[1]} to generate: an adaptive plan gives greedy answers only"
                )
        longest = given.pop("max_new_tokens", None)
        longest = getattr(config, "max_new_tokens", None) if longest is None else longest
        as_dict = given.pop("return_dict_in_generate", None)
        as_dict = getattr(config, "return_dict_in_generate", None) if as_dict is None else as_dict
        if given.get("pad_token_id") == pad_id(vlm):
            del given["pad_token_id"]
        taken = set(inspect.signature(vlm.model.forward).parameters) - _NO_PROMPT
        inputs = {name: value for name, value in given.items() if name in taken}
        _check_settings({k: v for k, v in given.items() if k not in taken})
        if as_dict:
            _check_settings({name: getattr(config, name, None) for name in _OF_STEPS})
        if longest is None:
            raise BridgeError(
                "give max_new_tokens: an adaptive plan judges answers of a known length"
            )
        check_max_new_tokens(longest)
        return cls(_checked(inputs), longest, bool(as_dict))


def pad_id(vlm: VLM) -> int:
    """The token behind shorter answers: the model's own, else an end of its answers, else 0."""
    pad = vlm.model.generation_config.pad_token_id
    return int(pad) if pad is not None else (end_ids(vlm) or [0])[0]


def _by_name(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name; the first of `generate` is `input_ids`."""
    names = list(inspect.signature(GenerationMixin.generate).parameters)[1:-1]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    ids = given.pop("inputs", None)
    if ids is not None and given.get("input_ids") is not None:
        raise BridgeError("generate was given inputs and input_ids, which are the same; pass one")
    return given if ids is None else {"input_ids": ids, **given}


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if not changes_nothing(name, value):
            who = ", as vb.answer and other verbs do" if name in _OF_STEPS else ""
            raise BridgeError(f"generate was asked for {name}={_short(value)}{who}: {_HINT}")


def _checked(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    inputs = {name: value for name, value in inputs.items() if value is not None}
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or 0 in ids.shape:
        raise BridgeError(
            "generate needs input_ids of shape (rows, length), as a processor returns them with "
            f"return_tensors='pt', got {_short(ids)}"
        )
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise BridgeError(f"{name} must be a tensor, got {_short(value)}")
    return dict(inputs)


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    plain = value is None or isinstance(value, bool | int | float | str | list | tuple | dict)
    return shown(value) if plain else f"a {type(value).__name__}"
