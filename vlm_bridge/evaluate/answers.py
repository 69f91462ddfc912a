"""The model answers: greedy `generate`, batch by batch, with the first token's distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_bridge.data import Item
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.runtime.progress import track


@dataclass(frozen=True)
class Answers:
    """What a model said to one batch.

    Attributes:
        batch: the questions.
        texts: the answers, stripped, special tokens left out.
        log_probs: (n, vocabulary) log-probabilities of the first answer token, in nats.
    """

    batch: Batch
    texts: tuple[str, ...]
    log_probs: Tensor


@torch.no_grad()
def answer_batch(vlm: VLM, batch: Batch, *, max_new_tokens: int = 8) -> Answers:
    """Greedy answers to one batch through the model's own `generate`."""
    made = vlm.model.generate(
        **batch.inputs,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = made.sequences[:, batch.inputs["input_ids"].shape[1] :]
    texts = vlm.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    log_probs = torch.log_softmax(made.logits[0].float(), dim=-1)
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
    """Greedy answers to `items`, in their order.

    Args:
        vlm: the model; inside `skipping` it answers as the skipped model.
        items: the questions.
        batch_size: questions in a batch.
        with_images: False asks without the image; each question text is then asked once.
        max_new_tokens: longest answer.
        title: of the progress bar.
    """
    asked = items if with_images else list({item.question: item for item in items}.values())
    texts = [""] * len(asked)
    for batch in track_batches(
        vlm, asked, batch_size=batch_size, with_images=with_images, title=title
    ):
        found = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
        for place, text in zip(batch.places, found.texts, strict=True):
            texts[place] = text
    if with_images:
        return texts
    by_question = {item.question: text for item, text in zip(asked, texts, strict=True)}
    return [by_question[item.question] for item in items]


def track_batches(
    vlm: VLM, items: Sequence[Item], *, batch_size: int, title: str, with_images: bool = True
) -> Iterator[Batch]:
    """`batches` under a progress bar that counts items."""
    with track(title, len(items)) as advance:
        for batch in batches(vlm, items, batch_size=batch_size, with_images=with_images):
            yield batch
            advance(len(batch.items))


def is_correct(text: str, item: Item) -> bool | None:
    """Whether an answer equals the true one, case and outer space aside; None without one."""
    if item.answer is None:
        return None
    return text.strip().lower() == item.answer.strip().lower()
