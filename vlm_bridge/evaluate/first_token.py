"""The first answer token, full and under many plans; what plans share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.resume import starting_at

DECISION = "first answer token"


@torch.no_grad()
def first_tokens(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities of the first answer token, of the full model and under every plan.

    Returns:
        (n, vocabulary), and as many for each plan, in nats.
    """
    states: dict[int, Tensor] = {}
    with capturing_states(vlm, lambda layer, _, output: states.__setitem__(layer, output)):
        full = _first_token(vlm, batch)
    found: dict[int, Tensor] = {}
    chain = _EntryChain()
    order = sorted(range(len(plans)), key=lambda i: plans[i].entry or 0)
    for i in order:
        plan = plans[i]
        with skipping(vlm, plan):
            if plan.mode == "late_entry":
                found[i] = chain.run(vlm, batch, plan)
            else:
                with starting_at(vlm, plan.first_layer, states):
                    found[i] = _first_token(vlm, batch)
    return full, [found[i] for i in range(len(plans))]


class _EntryChain:
    """Text-only states of the layers so far: entry at a begins where entry before a ended."""

    def __init__(self) -> None:
        self.depth = 0
        self.states: dict[int, Tensor] = {}

    def run(self, vlm: VLM, batch: Batch, plan: SkipPlan) -> Tensor:
        entry = plan.entry or 0
        grown: dict[int, Tensor] = {}

        def keep(layer: int, _: Tensor, output: Tensor) -> None:
            if layer == entry - 1:
                grown[layer] = output

        with starting_at(vlm, self.depth, self.states), capturing_states(vlm, keep):
            found = _first_token(vlm, batch)
        if grown:
            self.depth, self.states = entry, grown
        return found


def _first_token(vlm: VLM, batch: Batch) -> Tensor:
    logits = vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def _words(vlm: VLM, log_probs: Tensor) -> list[str]:
    return [vlm.processor.tokenizer.decode([i]) for i in log_probs.argmax(-1).tolist()]


def starts_right(vlm: VLM) -> Callable[[str, Item], bool | None]:
    """A judge of first tokens: is it the first token of the true answer; None without one.

    A tokenizer may begin an answer with a space or a capital; each way counts.
    """
    tokenizer = vlm.processor.tokenizer

    def judge(token: str, item: Item) -> bool | None:
        if item.answer is None:
            return None
        words = {item.answer, item.answer.capitalize()}
        spelled = [
            tokenizer.encode(s + w, add_special_tokens=False) for w in words for s in ("", " ")
        ]
        return token in {tokenizer.decode(ids[:1]) for ids in spelled}

    return judge
