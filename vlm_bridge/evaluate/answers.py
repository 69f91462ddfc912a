"""Greedy answers of a model, batch by batch, with the distribution of the first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.progress import track


@dataclass(frozen=True)
class Answers:
    """A model's answers to one batch."""

    batch: Batch
    texts: tuple[str, ...]  # stripped, without special tokens
    log_probs: Tensor  # (n, vocabulary) of the first answer token, in nats


@torch.no_grad()
def answer_batch(vlm: VLM, batch: Batch, *, max_new_tokens: int = 8) -> Answers:
    """Greedy answers to one batch through the model's own `generate`."""
    output = vlm.model.generate(
        **batch.inputs,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[:, batch.inputs["input_ids"].shape[1] :]
    texts = vlm.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    log_probs = torch.log_softmax(output.logits[0].float(), dim=-1)
    return Answers(batch, tuple(text.strip() for text in texts), log_probs)


def answer(
    vlm: VLM,
    items: Sequence[Item],
    *,
    batch_size: int = 16,
    with_images: bool = True,
    max_new_tokens: int = 8,
    title: str = "answers",
) -> list[str]:
    """Greedy answers to `items`, in their order; inside `skipping`, of the skipped model.

    Without `with_images` each question text is asked once, without an image. `title` is that of
    the progress bar.
    """
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


def is_correct(text: str, item: Item) -> bool | None:
    """Whether an answer equals the true one but for case and outer space; None without label."""
    if item.answer is None:
        return None
    return text.strip().lower() == item.answer.strip().lower()
