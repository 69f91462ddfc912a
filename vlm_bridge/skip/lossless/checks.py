"""What generation with a draft refuses before it computes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vlm_bridge.errors import BridgeError, shown
from vlm_bridge.model.given import given_plan
from vlm_bridge.model.settings import check_greedy
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.support import check_support

#: Kinds of layers from whose cache tokens can be taken back.
_KINDS = ("full_attention", "sliding_attention")
#: Settings of a `generation_config` that look at more than scores and tokens, with harmless values.
_OTHERS: dict[str, tuple[Any, ...]] = {
    "guidance_scale": (None, 1, 1.0),
    "watermarking_config": (None,),
    "cache_implementation": (None, "dynamic"),
    "use_cache": (None, True),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a call, checked; the attributes are arguments of `generate_lossless`."""

    draft_tokens: int
    max_new_tokens: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float

    def __post_init__(self) -> None:
        for name, least in (("draft_tokens", 1), ("max_new_tokens", 1), ("top_k", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BridgeError(f"{name} is a whole number from {least}, got {shown(value)}")
        if not isinstance(self.do_sample, bool):
            raise BridgeError(f"do_sample is True or False, got {shown(self.do_sample)}")
        for name, most, words in (
            ("temperature", math.inf, "a number above 0"),
            ("top_p", 1.0, "a share above 0, at most 1"),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (0 < value <= most and math.isfinite(value)):
                raise BridgeError(f"{name} is {words}, got {shown(value)}")
        if not self.do_sample and (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0):
            raise BridgeError(
                "temperature, top_k and top_p are of sampling; pass do_sample=True, or leave them "
                "out for greedy answers"
            )

    @property
    def of_generate(self) -> dict[str, Any]:
        """The arguments of `model.generate`."""
        sampled = ("temperature", "top_k", "top_p") if self.do_sample else ()
        return {
            "do_sample": self.do_sample,
            "num_beams": 1,
            "max_new_tokens": self.max_new_tokens,
            "return_dict_in_generate": False,
            **{name: getattr(self, name) for name in sampled},
        }


def check_call(vlm: VLM, inputs: object, streamer: Any) -> None:
    """Raise a `BridgeError` for what generation with a draft cannot do."""
    given = inputs if isinstance(inputs, Mapping) else {}
    ids = given.get("input_ids")
    if given.get("inputs_embeds") is not None:
        raise BridgeError("generation with a draft needs input_ids, got inputs_embeds")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or 0 in ids.shape:
        raise BridgeError(
            "inputs is a mapping with input_ids (batch, length), as a processor returns it with "
            f"return_tensors='pt', got {shown(type(inputs).__name__)} with input_ids "
            f"{shown(tuple(ids.shape) if isinstance(ids, Tensor) else ids)}"
        )
    if streamer is not None and len(ids) > 1:
        raise BridgeError(f"a streamer takes one prompt, got a batch of {len(ids)}")
    check_greedy(vlm.name, vlm.model)
    config = getattr(vlm.model, "generation_config", None)
    for setting, harmless in _OTHERS.items():
        if (value := getattr(config, setting, None)) not in harmless:
            raise BridgeError(
                f"the generation_config of {vlm.name} sets {setting}={value!r}, with which a draft "
                f"cannot be verified; set model.generation_config.{setting} to {harmless[0]}"
            )


def given_draft(vlm: VLM, plan: SkipPlan | str) -> SkipPlan:
    """The plan; a `BridgeError` unless it can draft for `vlm`."""
    plan = given_plan(vlm, plan)
    if vlm.layout.encoder_decoder:
        raise BridgeError(
            f"{vlm.name} is an encoder-decoder; generation with a draft is for models with prompt "
            "and answer in one sequence"
        )
    check_support(vlm, plan)
    if plan.is_empty:
        raise BridgeError("the plan skips nothing, so that its draft is the full model; skip some")
    for index, kind in enumerate(vlm.layout.attention_types):
        if kind not in _KINDS:
            raise BridgeError(
                f"layer {index} ({type(vlm.layout.layers[index]).__name__}, {kind}) keeps a state "
                "from which rejected tokens cannot be taken back; generation with a draft "
                "needs layers of full or sliding self-attention"
            )
    return plan
