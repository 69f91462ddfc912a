"""The full model's answers, asked once and compared with the answers under several plans."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS, answer_batch, check_max_new_tokens
from vlm_bridge.evaluate.diverging import Diverged, ended
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.scorers import EXACT, Scorer
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping

#: What a comparison of whole answers compares.
DECISION = "generated answer"


@dataclass(frozen=True)
class FullAnswers:
    """The full model's greedy answers to some questions.

    Attributes:
        model: name of the model.
        items: the questions.
        texts: one answer for each question.
        max_new_tokens: longest answer, of the full and of the skipped model.
        at_limit: whether each answer reached that length without ending; None if not known.
        fingerprint: of the model; "" if not known.

    Raises:
        BridgeError: the numbers of answers and questions differ, or max_new_tokens below 1.
    """

    model: str
    items: tuple[Item, ...]
    texts: tuple[str, ...]
    max_new_tokens: int = MAX_NEW_TOKENS
    at_limit: tuple[bool, ...] | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        check_max_new_tokens(self.max_new_tokens)
        if len(self.texts) != len(self.items):
            raise BridgeError(f"{len(self.texts)} full answers for {len(self.items)} questions")

    @classmethod
    def ask(
        cls,
        vlm: VLM,
        items: Iterable[Item],
        *,
        batch_size: int = 16,
        max_new_tokens: int = MAX_NEW_TOKENS,
        checkpoint: Path | None = None,
    ) -> FullAnswers:
        """Ask the full model.

        Finished batches are added to the file `checkpoint`; a second call continues from it.

        Raises:
            BridgeError: there are no items, the model skips at present, the checkpoint is of
                another run, or a rank died.
        """
        items, fingerprint = list(items), vlm.fingerprint
        settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
        check_max_new_tokens(max_new_tokens)

        def work(batch: Batch) -> dict[str, Any]:
            with vlm.whole():
                answers = answer_batch(vlm, batch, max_new_tokens=max_new_tokens)
            return {"texts": answers.texts, "at_limit": answers.at_limit}

        answered = run_batches(
            vlm,
            items,
            work,
            _are_answers,
            batch_size=batch_size,
            title="full model",
            checkpoint=checkpoint,
            key=run_key("full answers", vlm, items, **settings),
        )
        asked = tuple(item for chosen, _ in answered for item in chosen)
        texts = tuple(text for _, answers in answered for text in answers["texts"])
        at_limit = tuple(cut for _, answers in answered for cut in answers["at_limit"])
        return cls(vlm.name, asked, texts, max_new_tokens, at_limit, fingerprint)

    @property
    def hash(self) -> str:
        """SHA-256 of the answers; part of the key of checkpoints that depend on them."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    def outcomes(
        self,
        vlm: VLM,
        plan: SkipPlan,
        *,
        batch_size: int = 16,
        limit: float | None = None,
        checkpoint: Path | None = None,
        scorer: Scorer = EXACT,
    ) -> Outcomes:
        """Compare the answers under `plan` with these; the full model is not run again.

        The run stops as soon as the disagreement over all images is certain to exceed `limit`;
        the outcomes are then of the questions asked so far. `checkpoint` as in `ask`; answers are
        scored by `scorer`.

        Raises:
            BridgeError: answers of another model, a plan the model cannot do, a checkpoint of
                another run, or a rank that died.
        """
        self._check_model(vlm)
        if plan.is_empty:
            texts, longest = self.texts, self.max_new_tokens
            return Outcomes.of_words(
                *(self.items, texts, texts, scorer.score),
                at_limit=self.at_limit,
                max_new_tokens=longest,
            )
        check_support(vlm, plan)
        return self.outcomes_inside(
            *(vlm, lambda: skipping(vlm, plan), plan.hash(), plan.describe(vlm.layout.modality)),
            batch_size=batch_size,
            limit=limit,
            checkpoint=checkpoint,
            scorer=scorer,
        )

    def _check_model(self, vlm: VLM) -> None:
        if vlm.name != self.model:
            raise BridgeError(f"these are the answers of {self.model}, not of {vlm.name}")
        if self.fingerprint not in ("", vlm.fingerprint):
            raise BridgeError(
                f"these are the answers of {self.model} ({self.fingerprint[:12]}); its weights, "
                f"dtype or attention are now others ({vlm.fingerprint[:12]})"
            )

    def outcomes_inside(
        self,
        vlm: VLM,
        inside: Callable[[], AbstractContextManager[Any]],
        name: str,
        title: str,
        *,
        batch_size: int = 16,
        limit: float | None = None,
        checkpoint: Path | None = None,
        scorer: Scorer = EXACT,
    ) -> Outcomes:
        """`outcomes` in the context that `inside` makes, in place of a plan.

        `name` identifies what runs inside, in the key of the checkpoint; `title` is for people.
        """
        self._check_model(vlm)
        questions = Counter(item.cluster for item in self.items)

        def work(batch: Batch) -> dict[str, Any]:
            with inside():
                texts = answer_batch(vlm, batch, max_new_tokens=self.max_new_tokens).texts
            outcomes = self._compared(batch, texts, scorer)
            pairs = zip(batch.items, outcomes.disagree, strict=True)
            changed = sum(disagrees / questions[item.cluster] for item, disagrees in pairs)
            return {"outcomes": outcomes.columns(), "changed_images": changed}

        def is_result(result: Any, n: int) -> bool:
            if not isinstance(result, dict) or set(result) != {"outcomes", "changed_images"}:
                return False
            changed = type(result["changed_images"]) in (int, float)
            return changed and self._are_columns(result["outcomes"], n)

        def enough(results: Sequence[dict[str, Any]]) -> bool:
            changed = sum(result["changed_images"] for result in results)
            return limit is not None and changed / len(questions) > limit

        settings: dict[str, Any] = {"batch_size": batch_size, **scorer.settings}
        settings["max_new_tokens"] = self.max_new_tokens
        results = run_batches(
            vlm,
            self.items,
            work,
            is_result,
            batch_size=batch_size,
            title=title,
            checkpoint=checkpoint,
            key=run_key("answers", vlm, self.items, plan=name, full=self.hash, **settings),
            enough=None if limit is None else enough,
        )
        columns = [(chosen, result["outcomes"]) for chosen, result in results]
        return Outcomes.of_batches(columns, max_new_tokens=self.max_new_tokens)

    def of_plans(
        self,
        vlm: VLM,
        plans: Sequence[SkipPlan],
        *,
        batch_size: int = 16,
        changes_only: bool = False,
        folder: Path | None = None,
    ) -> list[Outcomes]:
        """`outcomes` of each of many plans, with the layers that they leave alone run once.

        In every batch the full model reads the prompts first; each of several plans starts with its
        states at the first layer that the plan touches, and the encoders run once. So the states of
        a batch at these layers, and its keys, are in memory together. Answers are those of
        `outcomes`, bit for bit.
        With `changes_only` an answer ends where it leaves the full model's, and the outcomes hold
        which ones changed and nothing else. Finished batches are kept in `folder`, in a file for
        each set of plans.

        Raises:
            BridgeError: as `outcomes`, or there are no plans.
        """
        if not plans:
            raise BridgeError("of_plans was given no plans; give at least one SkipPlan")
        self._check_model(vlm)
        for plan in plans:
            check_support(vlm, plan)
        skips = [plan for plan in plans if not plan.is_empty]

        def work(batch: Batch) -> list[dict[str, Any]]:
            run = SharedRun(vlm, batch, (None, *skips), max_new_tokens=self.max_new_tokens)
            if len(skips) > 1:
                run.ask(None, until=ended)
            full = [self.texts[place] for place in batch.places]

            def compared(plan: SkipPlan) -> Outcomes:
                until = Diverged(vlm, full) if changes_only else None
                texts = full if plan.is_empty else run.ask(plan, until=until).texts(vlm)
                outcomes = self._compared(batch, texts)
                return outcomes.changes if changes_only else outcomes

            return [compared(plan).columns() for plan in plans]

        settings = {"batch_size": batch_size, "max_new_tokens": self.max_new_tokens}
        settings |= {"changes_only": True} if changes_only else {}
        names = [plan.hash() for plan in plans]
        of_set = hashlib.sha256("".join(names).encode()).hexdigest()[:16]
        results = run_batches(
            vlm,
            self.items,
            work,
            lambda result, n: (
                is_list_of(result, dict, len(plans))
                and all(self._are_columns(columns, n) for columns in result)
            ),
            batch_size=batch_size,
            title=f"answers under {len(plans)} plans",
            checkpoint=folder and folder / f"plans-{of_set}.jsonl",
            key=run_key("answers", vlm, self.items, plans=names, full=self.hash, **settings),
        )
        longest = self.max_new_tokens
        return [
            Outcomes.of_batches(
                [(chosen, columns[place]) for chosen, columns in results], max_new_tokens=longest
            )
            for place in range(len(plans))
        ]

    def _compared(self, batch: Batch, texts: Sequence[str], scorer: Scorer = EXACT) -> Outcomes:
        """Other answers to a batch beside these."""
        full = [self.texts[place] for place in batch.places]
        cut = self.at_limit and [self.at_limit[place] for place in batch.places]
        longest = self.max_new_tokens
        return Outcomes.of_words(
            *(batch.items, full, texts, scorer.score), at_limit=cut, max_new_tokens=longest
        )

    def _are_columns(self, columns: Any, n: int) -> bool:
        """Whether these are the columns of `_compared` of `n` questions."""
        known = self.at_limit is not None
        return Outcomes.are_columns(columns, n, kl=False, at_limit=known)


def _are_answers(result: Any, n: int) -> bool:
    """Whether this is what `FullAnswers.ask` stores of `n` questions."""
    if not isinstance(result, dict) or set(result) != {"texts", "at_limit"}:
        return False
    kinds = {"texts": str, "at_limit": bool}
    return all(is_list_of(result[name], kind, n) for name, kind in kinds.items())
