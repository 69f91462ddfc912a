"""What the full and the skipped model say to the same questions, and how long they take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlm_bridge.cost.phase import timed
from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import (
    MAX_NEW_TOKENS,
    Answers,
    answer_batch,
    check_max_new_tokens,
)
from vlm_bridge.evaluate.outcomes import Outcomes, kl
from vlm_bridge.evaluate.scorers import EXACT, Scorer
from vlm_bridge.model.given import check_items, check_vlm, given_plan
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping

#: Numbers of tokens at which the beginnings of answers are kept.
LENGTHS = (1, 4, 16, 64, 256, 1024)
_KLS = ("kl_full_skipped", "kl_skipped_full")


@dataclass(frozen=True)
class Said:
    """What one model said.

    Attributes:
        texts: the answer to each question.
        n_tokens: its number of tokens, the end included.
        beginnings: of each answer the texts of its first 1, 4, 16, ... tokens, as far as these are
            fewer than the longest answer may have.
        seconds: of each batch.
    """

    texts: tuple[str, ...]
    n_tokens: tuple[int, ...]
    beginnings: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class PairedAnswers:
    """What the full and the skipped model said to the same questions.

    Attributes:
        items: the questions, those of an image together.
        plan: what was skipped.
        full, skipped: the answers of both models.
        kl_full_skipped, kl_skipped_full: of the first answer token of each, in nats.
        at_limit: whether the full model's answer reached `max_new_tokens` without ending.
        batch_sizes: questions in each batch.
        max_new_tokens: longest answer, in tokens.
    """

    items: tuple[Item, ...]
    plan: SkipPlan
    full: Said
    skipped: Said
    kl_full_skipped: tuple[float, ...]
    kl_skipped_full: tuple[float, ...]
    at_limit: tuple[bool, ...]
    batch_sizes: tuple[int, ...]
    max_new_tokens: int

    def outcomes(self, scorer: Scorer = EXACT) -> Outcomes:
        """Changed answers, scores, KLs and lengths, question by question."""
        made = self._compared(self.full.texts, self.skipped.texts, scorer)
        return replace(
            made,
            kl_full_skipped=self.kl_full_skipped,
            kl_skipped_full=self.kl_skipped_full,
            at_limit=tuple(map(float, self.at_limit)),
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of tokens up to which answers can be compared; the last is the longest."""
        return (*_kept_lengths(self.max_new_tokens), self.max_new_tokens)

    def outcomes_up_to(self, length: int, scorer: Scorer = EXACT) -> Outcomes:
        """The outcomes of the first `length` tokens of every answer, one of `lengths`; no KL.

        Greedy answers of at most that length are the beginnings of longer ones.
        """
        if length == self.max_new_tokens:
            return self.outcomes(scorer)
        place = self.lengths.index(length)
        full, skipped = (
            [each[place] for each in said.beginnings] for said in (self.full, self.skipped)
        )
        return self._compared(full, skipped, scorer)

    def _compared(self, full: Sequence[str], skipped: Sequence[str], scorer: Scorer) -> Outcomes:
        score = scorer.of(self.items).score
        longest = self.max_new_tokens
        return Outcomes.of_words(self.items, full, skipped, score, max_new_tokens=longest)


def paired_answers(
    vlm: VLM,
    items: Iterable[Item],
    plan: SkipPlan,
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> PairedAnswers:
    """Answer every item with the full and with the skipped model, batch by batch.

    Which of the two answers a batch first alternates. Under `torchrun` the batches are shared among
    the ranks, and every rank gets all answers. `FullAnswers` runs the full model once for several
    plans. Finished batches are added to the file `checkpoint`; a second call with the same
    arguments continues from it.

    Raises:
        BridgeError: the model cannot do the plan, there are no items, the checkpoint is of
            another run, or another rank died.

    Example:
        >>> said = paired_answers(vlm, items, plan, max_new_tokens=256)  # doctest: +SKIP
        >>> said.full.texts[0], said.skipped.texts[0]  # doctest: +SKIP
        ('a red circle', 'a red square')
    """
    check_vlm(vlm)
    plan = given_plan(vlm, plan)
    items = check_items(items)
    check_support(vlm, plan)
    check_max_new_tokens(max_new_tokens)
    begun = 0

    def said_in(context: AbstractContextManager[Any], batch: Batch) -> tuple[Answers, float]:
        made: list[Answers] = []
        with context:
            seconds = timed(
                lambda: made.append(answer_batch(vlm, batch, max_new_tokens=max_new_tokens)),
                vlm.device,
            )
        return made[0], seconds

    def work(batch: Batch) -> dict[str, Any]:
        nonlocal begun
        begun += 1
        if plan.is_empty:
            full = skipped = said_in(vlm.whole(), batch)
        elif begun % 2:
            full = said_in(vlm.whole(), batch)
            skipped = said_in(skipping(vlm, plan), batch)
        else:
            skipped = said_in(skipping(vlm, plan), batch)
            full = said_in(vlm.whole(), batch)
        p, q = full[0].log_probs, skipped[0].log_probs
        return {
            "full": _columns(vlm, *full, max_new_tokens),
            "skipped": _columns(vlm, *skipped, max_new_tokens),
            "kl_full_skipped": kl(p, q),
            "kl_skipped_full": kl(q, p),
            "at_limit": full[0].at_limit,
        }

    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    results = run_batches(
        vlm,
        items,
        work,
        lambda result, n: _is_result(result, n, len(_kept_lengths(max_new_tokens))),
        batch_size=batch_size,
        title="full and skipped model",
        checkpoint=checkpoint,
        key=run_key("paired answers", vlm, items, plan=plan.hash(), **settings),
    )

    def column(name: str) -> Any:
        return tuple(value for _, result in results for value in result[name])

    return PairedAnswers(
        items=tuple(item for asked, _ in results for item in asked),
        plan=plan,
        full=_said([result["full"] for _, result in results]),
        skipped=_said([result["skipped"] for _, result in results]),
        kl_full_skipped=column("kl_full_skipped"),
        kl_skipped_full=column("kl_skipped_full"),
        at_limit=column("at_limit"),
        batch_sizes=tuple(len(asked) for asked, _ in results),
        max_new_tokens=max_new_tokens,
    )


def paired_outcomes(
    vlm: VLM, items: Iterable[Item], plan: SkipPlan, *, scorer: Scorer = EXACT, **run: Any
) -> Outcomes:
    """The outcomes of `paired_answers`, scored; `run` and errors are those of it."""
    return paired_answers(vlm, items, plan, **run).outcomes(scorer)


def _kept_lengths(longest: int) -> list[int]:
    return [length for length in LENGTHS if length < longest]


def _columns(vlm: VLM, answers: Answers, seconds: float, longest: int) -> dict[str, Any]:
    """What one model said to a batch, ready for JSON."""

    def begin(ids: tuple[int, ...], text: str, length: int) -> str:
        if len(ids) <= length:
            return text
        begun: str = vlm.tokenizer.decode(list(ids[:length]), skip_special_tokens=True)
        return begun.strip()

    pairs = list(zip(answers.tokens, answers.texts, strict=True))
    lengths = _kept_lengths(longest)
    return {
        "texts": list(answers.texts),
        "n_tokens": [len(ids) for ids, _ in pairs],
        "beginnings": [[begin(ids, text, length) for length in lengths] for ids, text in pairs],
        "seconds": seconds,
    }


def _said(batches: Sequence[dict[str, Any]]) -> Said:
    """The columns of all batches together."""
    return Said(
        texts=tuple(text for batch in batches for text in batch["texts"]),
        n_tokens=tuple(n for batch in batches for n in batch["n_tokens"]),
        beginnings=tuple(tuple(each) for batch in batches for each in batch["beginnings"]),
        seconds=tuple(batch["seconds"] for batch in batches),
    )


def _is_result(result: Any, n: int, lengths: int) -> bool:
    """Whether this is what `paired_answers` stores of `n` questions."""
    if not isinstance(result, dict) or set(result) != {"full", "skipped", *_KLS, "at_limit"}:
        return False
    return (
        all(_are_columns(result[name], n, lengths) for name in ("full", "skipped"))
        and all(is_list_of(result[name], float, n) for name in _KLS)
        and not any(math.isnan(value) for name in _KLS for value in result[name])
        and is_list_of(result["at_limit"], bool, n)
    )


def _are_columns(columns: Any, n: int, lengths: int) -> bool:
    if not isinstance(columns, dict):
        return False
    if set(columns) != {"texts", "n_tokens", "beginnings", "seconds"}:
        return False
    seconds, beginnings = columns["seconds"], columns["beginnings"]
    return (
        type(seconds) is float
        and seconds >= 0.0
        and is_list_of(columns["texts"], str, n)
        and is_list_of(columns["n_tokens"], int, n)
        and is_list_of(beginnings, list, n)
        and all(is_list_of(each, str, lengths) for each in beginnings)
    )
