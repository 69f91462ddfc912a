"""Greedy answers of a model, batch by batch; when two answers are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from vlm_bridge.data import Item
from vlm_bridge.data.text_forms import normalise as normalise
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.scorers.exact import is_correct as is_correct
from vlm_bridge.model.encoder_decoder import check_room, one_call
from vlm_bridge.model.finite import finite
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.settings import check_greedy
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS as MAX_NEW_TOKENS
from vlm_bridge.runtime.progress import track
from vlm_bridge.runtime.quiet import quiet_transformers


@dataclass(frozen=True)
class Answers:
    """A model's answers to one batch.

    Attributes:
        batch: the questions.
        texts: the generated text of each, without special tokens and outer white space. Two
            answers are the same if these texts are equal, letter by letter.
        log_probs: (n, vocabulary) of the first answer token, in nats.
        at_limit: whether each answer reached `max_new_tokens` tokens without ending.
        tokens: the ids of each answer up to its end, which counts, without the padding behind.
    """

    batch: Batch
    texts: tuple[str, ...]
    log_probs: Tensor
    at_limit: tuple[bool, ...]
    tokens: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Generated:
    """What `generate` gave for some prompts.

    Attributes:
        ids: (n, steps) new tokens; padding follows the end of an answer.
        logits: of every step, (n, vocabulary).
        cache: of prompt and answer; None if the model keeps none.
    """

    ids: Tensor
    logits: tuple[Tensor, ...]
    cache: Any

    def rows(self, places: Sequence[int]) -> Generated:
        """Those of some of the prompts, without the cache."""
        chosen = list(places)
        return Generated(self.ids[chosen], tuple(step[chosen] for step in self.logits), None)

    def texts(self, vlm: VLM) -> tuple[str, ...]:
        """The answers as text, without special tokens and outer white space."""
        return texts_of(vlm, self.ids)


def texts_of(vlm: VLM, ids: Any) -> tuple[str, ...]:
    """Rows of token ids as text, without special tokens and outer white space."""
    texts = vlm.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return tuple(text.strip() for text in texts)


@torch.no_grad()
def generated(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    *,
    max_new_tokens: int,
    names: Sequence[str] = (),
    until: StoppingCriteria | None = None,
) -> Generated:
    """Greedy tokens through the model's own `generate`; arguments and errors of `answer_batch`.

    A row for which `until` holds ends there.
    """
    check_max_new_tokens(max_new_tokens)
    check_greedy(vlm.name, vlm.model)
    check_room(vlm, max_new_tokens)

    def run() -> Generated:
        with quiet_transformers():
            output = vlm.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=max_new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
                stopping_criteria=None if until is None else StoppingCriteriaList([until]),
                **one_call(vlm),
            )
        # The sequences begin with the prompt, or with the start of an encoder-decoder's decoder.
        new = output.sequences[:, -len(output.logits) :]
        return Generated(new, tuple(output.logits), getattr(output, "past_key_values", None))

    return finite(vlm, inputs, run, names=names)


def answer_batch(vlm: VLM, batch: Batch, *, max_new_tokens: int = MAX_NEW_TOKENS) -> Answers:
    """Greedy answers to one batch through the model's own `generate`.

    Raises:
        BridgeError: a broken model, a `generation_config` under which answers are not greedy, or
            an answer longer than the decoder of an encoder-decoder has positions for.
    """
    made = generated(vlm, batch.inputs, max_new_tokens=max_new_tokens, names=batch.names)
    log_probs = torch.log_softmax(made.logits[0].float(), dim=-1)
    cut = at_limit(vlm, made.ids, max_new_tokens)
    return Answers(batch, made.texts(vlm), log_probs, cut, up_to_end(vlm, made.ids))


def check_max_new_tokens(max_new_tokens: int) -> None:
    """Raise a `BridgeError` unless an answer may have at least one token."""
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int):
        raise BridgeError(f"max_new_tokens is a whole number, got {max_new_tokens!r}")
    if max_new_tokens < 1:
        raise BridgeError(f"an answer has at least 1 token, got max_new_tokens={max_new_tokens}")


def at_limit(vlm: VLM, new: Tensor, max_new_tokens: int) -> tuple[bool, ...]:
    """Which rows of generated ids have `max_new_tokens` tokens and none that ends an answer."""
    if new.shape[1] < max_new_tokens:
        return (False,) * len(new)
    ends = torch.tensor(end_ids(vlm), dtype=new.dtype, device=new.device)
    return tuple((~torch.isin(new, ends).any(1)).tolist())


def up_to_end(vlm: VLM, new: Tensor) -> tuple[tuple[int, ...], ...]:
    """The rows of generated ids, each up to its first end."""
    ends = end_ids(vlm)

    def length(row: list[int]) -> int:
        return next((place for place, token in enumerate(row, 1) if token in ends), len(row))

    return tuple(tuple(row[: length(row)]) for row in new.tolist())


def end_ids(vlm: VLM) -> list[int]:
    """The ids that end an answer."""
    end = vlm.model.generation_config.eos_token_id
    return [] if end is None else list(end) if isinstance(end, list | tuple) else [int(end)]


def answer(
    vlm: VLM,
    items: Sequence[Item],
    *,
    batch_size: int = 16,
    with_images: bool = True,
    max_new_tokens: int = MAX_NEW_TOKENS,
    title: str = "answers",
) -> list[str]:
    """Greedy answers to `items`, in their order; inside `skipping`, of the skipped model.

    Without `with_images` each question text is asked once, without image and recording. `title`
    is that of the progress bar; an answer ends with the model's end of text or at `max_new_tokens`
    tokens.
    """
    check_vlm(vlm)
    items = check_items(items)
    asked = items if with_images else list({item.question: item for item in items}.values())
    texts = [""] * len(asked)
    with track(title, len(asked)) as advance:
        for batch in batches(vlm, asked, batch_size=batch_size, with_images=with_images):
            answers = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
            for place, text in zip(batch.places, answers.texts, strict=True):
                texts[place] = text
            advance(len(batch.items))
    if with_images:
        return texts
    by_question = {item.question: text for item, text in zip(asked, texts, strict=True)}
    return [by_question[item.question] for item in items]
