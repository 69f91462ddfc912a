"""Time two ways to decode in turn: the full model's `generate`, and another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimators import Estimate
from vlm_bridge.cost.measure import WARM_UP
from vlm_bridge.cost.phase import median_estimate
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.given import check_items
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.progress import track
from vlm_bridge.runtime.quiet import quiet_transformers


class Ticks:
    """A streamer that notes when the first and the last token came."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ticks: list[float] = []

    def put(self, _: Tensor) -> None:
        """Note the time; the first call brings the prompt, the second the first token."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._ticks.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to note."""

    @property
    def seconds(self) -> float:
        """From the first token to the last."""
        return self._ticks[-1] - self._ticks[1]


#: Answers one prompt, given its inputs, and shows the streamer each token, the prompt first.
Answer = Callable[[Mapping[str, Tensor], Ticks], tuple[int, ...]]


@dataclass(frozen=True)
class InTurn:
    """Two ways to answer the same prompts.

    Attributes:
        full, other: seconds per token after the first, of each prompt with two tokens or more.
        same: prompts with equal answers, token for token.
        prompts: all prompts.
    """

    full: tuple[float, ...]
    other: tuple[float, ...]
    same: int
    prompts: int

    @property
    def ratio(self) -> Estimate:
        """Time per token, other over full: the median over prompts."""
        return median_estimate([o / f for o, f in zip(self.other, self.full, strict=True)])


def answers_in_turn(
    vlm: VLM, items: Sequence[Item], other: Answer, *, max_new_tokens: int
) -> InTurn:
    """Time greedy answers of `generate` and those of `other` in turn, one prompt at a time.

    Which of the two runs first alternates; the first two prompts run once more before, to warm up.
    Times are from the first token, which belongs to the prefill, to the last.

    Raises:
        BridgeError: no items, or no answer has two tokens.
    """
    items = check_items(items)
    full, others, same = [], [], 0
    warm_up = items[:WARM_UP]
    with track("two ways in turn", len(items) + len(warm_up)) as advance:
        for number, item in enumerate([*warm_up, *items]):
            inputs = inputs_of(vlm, item)
            ticks = Ticks(vlm.device), Ticks(vlm.device)
            if number % 2:
                after = other(inputs, ticks[1])
                before = _greedy(vlm, inputs, ticks[0], max_new_tokens)
            else:
                before = _greedy(vlm, inputs, ticks[0], max_new_tokens)
                after = other(inputs, ticks[1])
            advance(1)
            if number < len(warm_up):
                continue
            same += before == after
            if min(len(before), len(after)) > 1:
                full.append(ticks[0].seconds / (len(before) - 1))
                others.append(ticks[1].seconds / (len(after) - 1))
    if not full:
        raise BridgeError(
            f"no answer to {len(items)} items has two tokens, so that nothing was decoded; give "
            "others, or more new tokens"
        )
    return InTurn(tuple(full), tuple(others), same, len(items))


def inputs_of(vlm: VLM, item: Item) -> Mapping[str, Tensor]:
    """The model inputs of one item alone."""
    return next(batches(vlm, [item], batch_size=1)).inputs


def _greedy(
    vlm: VLM, inputs: Mapping[str, Tensor], ticks: Ticks, max_new_tokens: int
) -> tuple[int, ...]:
    options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "streamer": ticks}
    with quiet_transformers():
        made: Any = vlm.model.generate(**inputs, max_new_tokens=max_new_tokens, **options)
    return tuple(made[0, inputs["input_ids"].shape[1] :].tolist())
