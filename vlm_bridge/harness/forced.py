"""Log-probabilities of given continuations, from the steps in which a model generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from vlm_bridge.errors import BridgeError
from vlm_bridge.runtime.quiet import quiet_transformers

#: A row that has ended would be read as padding from there on.
ENDED = "a continuation goes on behind an end of text, where the model stops; cut it there"


class _Forced(LogitsProcessor):
    """Makes `generate` choose given tokens: (batch, steps) after a prompt of `start` tokens."""

    def __init__(self, tokens: Tensor, start: int) -> None:
        self.tokens, self.start = tokens, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = self.tokens[:, input_ids.shape[1] - self.start, None].to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


@torch.no_grad()
def forced_log_probs(
    model: Any, inputs: Mapping[str, Tensor], continuations: Sequence[Sequence[int]]
) -> list[tuple[float, bool]]:
    """Log-probability of a continuation of each prompt, and whether it is the greedy one.

    `sum_t log p(c_t | prompt, c_<t)`, in nats, from the logits of `generate` with the tokens
    forced, so that prompt, cache and positions are those of an answer.

    Args:
        model: a transformers model that generates.
        inputs: left-padded model inputs of n prompts, with input_ids (n, length).
        continuations: n lists of token ids, none empty.

    Raises:
        BridgeError: the model ends its answer before a continuation does, at an end of text in it.
    """
    ends = torch.tensor(model.generation_config.eos_token_id or [], dtype=torch.long).flatten()
    if any(set(tokens[:-1]) & set(ends.tolist()) for tokens in map(list, continuations)):
        raise BridgeError(ENDED)
    steps = max(map(len, continuations))
    rows = [[*tokens, *[tokens[-1]] * (steps - len(tokens))] for tokens in continuations]
    forced = torch.tensor(rows, device=inputs["input_ids"].device)
    with quiet_transformers():
        output = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=steps,
            return_dict_in_generate=True,
            output_logits=True,
            logits_processor=LogitsProcessorList(
                [_Forced(forced, int(inputs["input_ids"].shape[1]))]
            ),
        )
    if len(output.logits) < steps:
        raise BridgeError(ENDED)
    by_step = torch.log_softmax(torch.stack(list(output.logits), 1).float(), dim=-1)
    found = []
    for row, tokens in zip(by_step, continuations, strict=True):
        own = forced.new_tensor(tokens).to(row.device)
        log_probs = row[: len(tokens)]
        total = log_probs.gather(1, own[:, None]).sum()
        found.append((float(total), bool((log_probs.argmax(-1) == own).all())))
    return found
