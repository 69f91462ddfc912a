"""What the decoder of an encoder-decoder starts from, since the prompt is in the encoder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.quiet import quiet_transformers

#: Tokens with which Whisper's decoder starts at most: start, language, task, no time stamps.
_LONGEST_START = 4
#: Names of the number of tokens for which a decoder has positions.
_ROOM = ("max_target_positions", "max_position_embeddings")


def with_decoder_start(vlm: VLM, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs and, of an encoder-decoder, the `decoder_input_ids` with which `generate` begins.

    They are read from an answer of one token: start, and what the model's `generate` puts after
    it, such as the language that Whisper hears. Inputs of other models are returned as they are.
    """
    if not vlm.layout.encoder_decoder or "decoder_input_ids" in inputs:
        return dict(inputs)
    return {**inputs, "decoder_input_ids": _generated(vlm, inputs, 1)[:, :-1]}


def with_own_answer(vlm: VLM, inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """The inputs with the model's own greedy answer, of at most `tokens` tokens, and its mask.

    `decoder_attention_mask` is 0 on what fills an answer up behind the end of its text.
    """
    room = _room(vlm)
    ids = _generated(vlm, inputs, tokens if room is None else min(tokens, room - _LONGEST_START))
    mask = _until_end(ids, vlm.model.generation_config.eos_token_id)
    return {**inputs, "decoder_input_ids": ids, "decoder_attention_mask": mask}


def _until_end(ids: Tensor, ends: Any) -> Tensor:
    """(batch, length) 1 up to the first end of text, 0 behind it; the start may be an end, too."""
    tokens = torch.tensor([] if ends is None else ends, dtype=ids.dtype, device=ids.device)
    mask = torch.ones_like(ids)
    mask[:, 2:] = torch.isin(ids[:, 1:-1], tokens).cumsum(1) == 0
    return mask


def last_only(vlm: VLM) -> dict[str, int]:
    """The argument for the logits of the last token only; encoder-decoders do not have it."""
    return {} if vlm.layout.encoder_decoder else {"logits_to_keep": 1}


def one_call(vlm: VLM) -> dict[str, bool]:
    """The argument with which Whisper's `generate` reads a recording once; others do not have it.

    Without it Whisper goes back in the recording wherever it writes a time stamp, as a model with
    skipped layers does, and gives the answers of the last round, which may lack some recordings.
    """
    name = "force_unique_generate_call"
    return {name: True} if name in inspect.signature(vlm.model.generate).parameters else {}


@torch.no_grad()
def _generated(vlm: VLM, inputs: Mapping[str, Tensor], tokens: int) -> Tensor:
    check_room(vlm, tokens)
    greedy = {"do_sample": False, "num_beams": 1, "return_dict_in_generate": True}
    with quiet_transformers():
        made: Any = vlm.model.generate(**inputs, max_new_tokens=tokens, **greedy, **one_call(vlm))
    ids: Tensor = made.sequences
    return ids


def check_room(vlm: VLM, tokens: int) -> None:
    """Raise a `BridgeError` if the decoder of an encoder-decoder has no positions for an answer."""
    room = _room(vlm)
    if room is not None and tokens + _LONGEST_START > room:
        raise BridgeError(
            f"{vlm.name} has positions for {room} tokens of an answer and its start; ask for at "
            f"most {room - _LONGEST_START} tokens, not {tokens}"
        )


def _room(vlm: VLM) -> int | None:
    """Number of positions of an encoder-decoder's decoder, if its configuration tells."""
    if not vlm.layout.encoder_decoder:
        return None
    config: Any = vlm.layout.text_config
    return next((int(getattr(config, name)) for name in _ROOM if hasattr(config, name)), None)
