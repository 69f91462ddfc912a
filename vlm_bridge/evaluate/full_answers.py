"""Do whole answers change under a plan? The full model is asked once, its words are kept.

What certifies and what tunes compares words alone, so that nothing of the size of a vocabulary is
kept for a question, and several plans share one run of the full model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer_batch
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import run_batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping


@dataclass(frozen=True)
class FullAnswers:
    """The full model's greedy answers to some questions, for many plans to be held against.

    Attributes:
        model: name of the model.
        items: the questions.
        texts: one answer each.
        max_new_tokens: longest answer, which a skipped model is held to as well.

    Raises:
        BridgeError: as many answers as questions are needed.
    """

    model: str
    items: tuple[Item, ...]
    texts: tuple[str, ...]
    max_new_tokens: int = 8

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.items):
            raise BridgeError(f"{len(self.texts)} full answers for {len(self.items)} questions")

    @classmethod
    def ask(
        cls,
        vlm: VLM,
        items: Iterable[Item],
        *,
        batch_size: int = 16,
        max_new_tokens: int = 8,
        checkpoint: Path | None = None,
    ) -> FullAnswers:
        """Ask the full model.

        Args:
            vlm: the model, not inside `skipping`.
            items: the questions.
            batch_size: questions in a batch.
            max_new_tokens: longest answer.
            checkpoint: a file every finished batch is added to; a second call goes on from it.

        Raises:
            BridgeError: there are no items, the checkpoint is of another run, or a rank died.
        """
        items = list(items)
        found = run_batches(
            vlm,
            items,
            lambda batch: answer_batch(vlm, batch, max_new_tokens=max_new_tokens).texts,
            batch_size=batch_size,
            title="full model",
            checkpoint=checkpoint,
            key=_key("full answers", vlm, items, batch_size, max_new_tokens),
        )
        asked = tuple(item for chosen, _ in found for item in chosen)
        return cls(vlm.name, asked, tuple(t for _, texts in found for t in texts), max_new_tokens)

    @property
    def hash(self) -> str:
        """SHA-256 of the answers, for the checkpoints of plans that were held against them."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    def outcomes(
        self,
        vlm: VLM,
        plan: SkipPlan,
        *,
        batch_size: int = 16,
        limit: float | None = None,
        checkpoint: Path | None = None,
    ) -> Outcomes:
        """What `plan` does to these answers; the full model is not run again.

        Args:
            vlm: the same model.
            plan: what to skip.
            batch_size: questions in a batch.
            limit: stop once the disagreement over all images must come out above this; the
                outcomes are then of the questions asked so far.
            checkpoint: a file every finished batch is added to; a second call goes on from it.

        Raises:
            BridgeError: another model's answers, a plan it cannot do, a checkpoint of another run,
                or a rank that died.
        """
        if vlm.name != self.model:
            raise BridgeError(f"these are the answers of {self.model}, not of {vlm.name}")
        if plan.is_empty:
            return Outcomes.of_words(self.items, self.texts, self.texts)
        check_support(vlm, plan)
        asked = Counter(item.cluster for item in self.items)

        def work(batch: Batch) -> dict[str, Any]:
            full = [self.texts[place] for place in batch.places]
            with skipping(vlm, plan):
                texts = answer_batch(vlm, batch, max_new_tokens=self.max_new_tokens).texts
            return {
                "texts": texts,
                "changed": sum(
                    (text != before) / asked[item.cluster]
                    for item, text, before in zip(batch.items, texts, full, strict=True)
                ),
            }

        def enough(done: Sequence[dict[str, Any]]) -> bool:
            assert limit is not None
            return bool(sum(one["changed"] for one in done) / len(asked) > limit)

        found = run_batches(
            vlm,
            self.items,
            work,
            batch_size=batch_size,
            title=plan.describe(),
            checkpoint=checkpoint,
            key={
                **_key("answers under a plan", vlm, self.items, batch_size, self.max_new_tokens),
                "plan": plan.hash(),
                "full": self.hash,
            },
            enough=None if limit is None else enough,
        )
        at = {id(item): text for item, text in zip(self.items, self.texts, strict=True)}
        return Outcomes.join(
            [
                Outcomes.of_words(chosen, [at[id(item)] for item in chosen], one["texts"])
                for chosen, one in found
            ]
        )


def _key(
    run: str, vlm: VLM, items: Sequence[Item], batch_size: int, longest: int
) -> dict[str, Any]:
    return {
        "run": run,
        "model": vlm.name,
        "data": items_hash(items),
        "batch_size": batch_size,
        "max_new_tokens": longest,
    }
