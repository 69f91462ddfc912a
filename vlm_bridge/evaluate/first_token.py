"""The first answer token of the full model and under many plans, sharing their computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import normalise
from vlm_bridge.model.encoder_decoder import with_decoder_start
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip import skipping
from vlm_bridge.skip.resume import starting_at

DECISION = "first answer token"
#: Modes of an entry depth alone: a plan continues the text-only states of a shallower entry.
_ENTRY_MODES = [name for name, mode in MODES.items() if mode.takes == ("entry",)]


@torch.no_grad()
def first_tokens(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> tuple[Tensor, list[Tensor]]:
    """(n, vocabulary) log-probabilities of the first answer token: full model, and each plan.

    The decoder of an encoder-decoder starts as that of the full model does, under every plan.
    """
    batch = replace(batch, inputs=with_decoder_start(vlm, batch.inputs))
    full, states = full_first_token(vlm, batch)
    by_plan: dict[int, Tensor] = {}
    chain = _EntryChain()
    for i in sorted(range(len(plans)), key=lambda i: plans[i].entry or 0):
        plan = plans[i]
        with skipping(vlm, plan):
            if plan.mode in _ENTRY_MODES:
                by_plan[i] = chain.run(vlm, batch, plan.entry or 0)
            else:
                first = plan.first_layer if plan.stack == DECODER else 0
                with starting_at(vlm, first, states):
                    by_plan[i] = first_token(vlm, batch)
    return full, [by_plan[i] for i in range(len(plans))]


class _EntryChain:
    """Runs ascending entry depths, each from the text-only states at the depth before."""

    def __init__(self) -> None:
        self.depth = 0
        self.states: dict[int, Tensor] = {}

    def run(self, vlm: VLM, batch: Batch, entry: int) -> Tensor:
        at_entry: dict[int, Tensor] = {}

        def keep(layer: int, _: Tensor, output: Tensor) -> None:
            if layer == entry - 1:
                at_entry[layer] = output

        with starting_at(vlm, self.depth, self.states), capturing_states(vlm, keep):
            log_probs = first_token(vlm, batch)
        if at_entry:
            self.depth, self.states = entry, at_entry
        return log_probs


def full_first_token(vlm: VLM, batch: Batch) -> tuple[Tensor, dict[int, Tensor]]:
    """(n, vocabulary) log-probabilities of the first answer token, and every layer's output."""
    states: dict[int, Tensor] = {}
    with capturing_states(vlm, lambda layer, _, output: states.__setitem__(layer, output)):
        return first_token(vlm, batch), states


def first_token(vlm: VLM, batch: Batch) -> Tensor:
    """(n, vocabulary) log-probabilities of the first answer token of the model as it is now."""
    return torch.log_softmax(first_logits(vlm, batch).float(), dim=-1)


def words(vlm: VLM, log_probs: Tensor) -> list[str]:
    """The likeliest token of each (n, vocabulary) row, as text."""
    return [vlm.tokenizer.decode([i]) for i in log_probs.argmax(-1).tolist()]


def starts_right(vlm: VLM) -> Callable[[str, Item], bool | None]:
    """A judge: whether a token begins a true answer, in any spelling; None without a label.

    A tokenizer may begin an answer with a space or a capital; its `normalise`d form counts too.
    """
    tokenizer = vlm.tokenizer

    def judge(token: str, item: Item) -> bool | None:
        if item.answer is None:
            return None
        forms = {form for each in item.references for form in (each, normalise(each))}
        spellings = [s + w for f in forms for w in {f, f.capitalize()} for s in ("", " ")]
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in spellings]
        return token in {tokenizer.decode(first[:1]) for first in ids}

    return judge
