"""Rows of a batch that grow by different numbers of tokens, in one cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from vlm_bridge.errors import BridgeError
from vlm_bridge.skip.lossless.cache import check_croppable, keep_ends, rewind

#: Arguments of a model with one entry for each token, in their last dimension.
_BY_TOKEN = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")


class GrowingBatch:
    """Prompts and what was generated after them, right-aligned; the cache lacks the newest token.

    Attributes:
        ids: (batch, s) tokens; shorter rows begin with padding.
        lengths: tokens of each row, the padding of its prompt included.
    """

    def __init__(self, model: Any, ids: Tensor, pad: int, arguments: dict[str, Any]) -> None:
        """`arguments` are those that `generate` has prepared for the passes of `model`."""
        self._model, self._arguments, self._pad = model, arguments, pad
        self.ids, self.lengths = ids, [ids.shape[1]] * len(ids)
        check_croppable(self.cache)
        if len(ids) > 1 and arguments.get("position_ids") is None:
            raise BridgeError(
                f"{type(model).__name__} takes no position_ids, so that rows that accept "
                "different numbers of tokens have no positions; give one prompt at a time"
            )

    @classmethod
    def of_call(
        cls, model: Any, ids: Tensor, config: Any, arguments: dict[str, Any]
    ) -> tuple[GrowingBatch, list[int]]:
        """The batch of a call of `generate` with its `generation_config`, and what ends answers."""
        pad, ends = config._pad_token_tensor, config._eos_token_tensor
        batch = cls(model, ids, 0 if pad is None else int(pad), arguments)
        return batch, [] if ends is None else ends.tolist()

    @property
    def cache(self) -> Any:
        """The one cache of draft and full model."""
        return self._arguments.get("past_key_values")

    def prefill(self, settings: Any) -> Tensor:
        """(batch, vocabulary) logits behind the prompts."""
        output = self._model._prefill(self.ids, settings, self._arguments)
        if not isinstance(output.past_key_values, Cache):
            raise BridgeError(f"{type(self._model).__name__} returns no cache of its prompt")
        self._arguments = self._longer(output, self._arguments)
        check_croppable(self.cache)
        self.cache.activate_past_recording()
        logits: Tensor = output.logits[:, -1]
        return logits

    def add(self, tokens: Tensor) -> None:
        """Put the first token (batch,) behind the prompts."""
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        self.lengths = [length + 1 for length in self.lengths]

    def run(self, drafted: Tensor) -> Tensor:
        """(batch, k + 1, vocabulary) logits at the newest token and at `drafted` (batch, k) ones.

        The cache then holds them all, until `keep` takes back those that do not stay.
        """
        return self.run_last(drafted, drafted.shape[1] + 1)

    def run_newest(self, drafted: Tensor) -> Tensor:
        """(batch, vocabulary) logits at the last token; the cache holds all tokens before it."""
        return self.run_last(drafted, 1)[:, -1]

    def run_last(self, drafted: Tensor, count: int) -> Tensor:
        """(batch, count, vocabulary) logits at the last `count` of the tokens and `drafted` ones.

        The cache holds all tokens before these, and afterwards these, too.
        """
        arguments = self._arguments
        for _ in range(drafted.shape[1]):
            arguments = self._longer(None, arguments)
        return self._pass(torch.cat([self.ids, drafted], 1), count, arguments)

    def rewind(self, count: int) -> None:
        """Remove the last `count` tokens from the cache, so that earlier ones can be, too."""
        rewind(self.cache, count)

    def last_states(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Copies of the keys and values of the last `count` tokens, of every cache layer."""
        return [
            (layer.keys[..., -count:, :].clone(), layer.values[..., -count:, :].clone())
            for layer in self.cache.layers
        ]

    def put_back(self, states: Sequence[tuple[Tensor, Tensor]], rows: Sequence[int]) -> None:
        """Give these rows the keys and values of `last_states` again, for their last tokens."""
        chosen = list(rows)
        for layer, (keys, values) in zip(self.cache.layers, states, strict=True):
            count = keys.shape[-2]
            # New tensors: those of the cache may be views that passes share.
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
            layer.keys[chosen, :, -count:] = keys[chosen]
            layer.values[chosen, :, -count:] = values[chosen]

    def take_back(self, count: int) -> None:
        """Remove the last `count` tokens from the cache."""
        self.cache.crop(-count)

    def keep(self, tokens: Tensor, counts: Sequence[int], going_on: Sequence[bool]) -> None:
        """Put the first `counts[r]` of `tokens` (batch, k + 1) behind row r, after `run`.

        A row that does not go on is kept with any content.
        """
        before = self.ids.shape[1]
        arguments = self._arguments
        for _ in range(tokens.shape[1]):
            arguments = self._longer(None, arguments)
        ids = torch.cat([self.ids, tokens], 1)
        self.lengths = [have + more for have, more in zip(self.lengths, counts, strict=True)]
        now = max(n for n, goes in zip(self.lengths, going_on, strict=True) if goes)
        rows = zip(counts, going_on, strict=True)
        ends = [before + more if goes else now for more, goes in rows]
        keep_ends(self.cache, [end - 1 for end in ends], now - 1)
        places = torch.tensor(ends, device=ids.device)[:, None]
        places = places - now + torch.arange(now, device=ids.device)
        there, places = places >= 0, places.clamp(min=0)
        self.ids = ids.gather(1, places).masked_fill(~there, self._pad)
        whole = all(end == now for end in ends)
        if not whole and arguments.get("attention_mask") is None:
            arguments = {**arguments, "attention_mask": torch.ones_like(ids)}
        for name in _BY_TOKEN:
            if isinstance(value := arguments.get(name), Tensor):
                arguments[name] = _aligned(value, places)
        if isinstance(mask := arguments.get("attention_mask"), Tensor):
            arguments["attention_mask"] = mask * there.to(mask)
        self._arguments = arguments

    def last_ids(self, length: int) -> Tensor:
        """(batch, length) of rows of that length all tokens, as `generate` would have them."""
        return self.ids[:, self.ids.shape[1] - length :]

    def _longer(self, output: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a pass whose sequences have one more token of text."""
        had = {} if output is None else output
        longer: dict[str, Any] = self._model._update_model_kwargs_for_generation(
            had, dict(arguments), is_encoder_decoder=False
        )
        return longer

    def _pass(self, ids: Tensor, count: int, arguments: dict[str, Any]) -> Tensor:
        given = self._model.prepare_inputs_for_generation(
            ids, next_sequence_length=count, **arguments
        )
        if "logits_to_keep" in given:
            given["logits_to_keep"] = count
        logits: Tensor = self._model(**given, return_dict=True).logits[:, -count:]
        return logits


def _aligned(value: Tensor, places: Tensor) -> Tensor:
    """(..., batch, m): the entries of `value` (..., batch or 1, s) at `places` (batch, m)."""
    shape = (*value.shape[:-2], *places.shape)
    return value.expand(*shape[:-1], -1).gather(-1, places.expand(shape))
