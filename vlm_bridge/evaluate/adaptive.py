"""Answers under an `AdaptivePlan`: only unsure ones go on, and nothing shared is computed twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import StoppingCriteria

from vlm_bridge.data import Item
from vlm_bridge.evaluate.answers import (
    MAX_NEW_TOKENS,
    Generated,
    check_max_new_tokens,
    texts_of,
)
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.outcomes import Outcomes
from vlm_bridge.evaluate.shared_run import SharedRun
from vlm_bridge.evaluate.signals import agreements, signals_of
from vlm_bridge.model.given import check_adaptive, check_items, check_vlm
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support
from vlm_bridge.skip.by_token import check_token_gate, decide_by_token


@dataclass(frozen=True)
class AdaptiveAnswers:
    """Answers under an adaptive plan.

    Attributes:
        items: the questions.
        texts: the answer to each.
        gates: number of the gate at which each answer stood, from 0; the number of gates where the
            full model gave it. Of a gate over tokens as in `TokenDecisions`.
    """

    items: tuple[Item, ...]
    texts: tuple[str, ...]
    gates: tuple[int, ...]


def adaptive_answers(
    vlm: VLM,
    items: Iterable[Item],
    plan: AdaptivePlan,
    *,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    checkpoint: Path | None = None,
) -> AdaptiveAnswers:
    """Greedy answers: each by the first gate at which it is sure enough, or by the full model.

    An answer of a gate is complete before it is judged, so that there is no streaming. What the
    layers before the first skipped one and the encoders have computed is used again. Answers of the
    full model are those of `answer`, up to rounding: a row computed in another batch may differ in
    the last digits of its logits. A gate over tokens judges each token: see `generate_by_token`.

    Raises:
        BridgeError: no adaptive plan, a plan of another model or one that the model cannot do, no
            items, a model that skips at present, a broken one, a checkpoint of another run.

    Example:
        >>> adaptive_answers(vlm, items, AdaptivePlan((Gate(plan),))).texts  # doctest: +SKIP
        ('yes', 'a circle')
    """
    check_vlm(vlm)
    check_adaptive_support(vlm, plan)
    items = check_items(items)
    check_max_new_tokens(max_new_tokens)

    def work(batch: Batch) -> dict[str, Any]:
        made = adaptive_batch(vlm, batch, plan, max_new_tokens=max_new_tokens)
        return {"texts": made.texts, "gates": made.gates}

    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    answered = run_batches(
        vlm,
        items,
        work,
        lambda result, n: _are_answers(result, n, len(plan.gates)),
        batch_size=batch_size,
        title="adaptive plan",
        checkpoint=checkpoint,
        key=run_key("adaptive answers", vlm, items, plan=plan.hash(), **settings),
    )
    asked = tuple(item for chosen, _ in answered for item in chosen)
    texts, gates = (
        tuple(value for _, result in answered for value in result[name])
        for name in ("texts", "gates")
    )
    return _in_order_of(items, AdaptiveAnswers(asked, texts, gates))


def _in_order_of(items: Sequence[Item], made: AdaptiveAnswers) -> AdaptiveAnswers:
    """The same answers in the order of `items`; batches keep the questions of a unit together."""
    places: dict[int, list[int]] = {}
    for place, item in enumerate(made.items):
        places.setdefault(id(item), []).append(place)
    order = [places[id(item)].pop(0) for item in items]
    texts, gates = tuple(made.texts[i] for i in order), tuple(made.gates[i] for i in order)
    return AdaptiveAnswers(tuple(items), texts, gates)


def _are_answers(result: Any, n: int, gates: int) -> bool:
    if not isinstance(result, dict) or set(result) != {"texts", "gates"}:
        return False
    lists = is_list_of(result["texts"], str, n) and is_list_of(result["gates"], int, n)
    return lists and all(0 <= gate <= gates for gate in result["gates"])


def check_adaptive_support(vlm: VLM, plan: AdaptivePlan) -> None:
    """Raise a `BridgeError` unless the model can do every plan, and all are of this model."""
    check_adaptive(plan)
    plan.provenance.check_model(vlm.name, vlm.fingerprint)
    if plan.by_token:
        check_token_gate(vlm, plan.gates[0])
    for each in plan.plans:
        check_support(vlm, each)


def adaptive_outcomes(
    full: FullAnswers,
    vlm: VLM,
    plan: AdaptivePlan,
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> tuple[Outcomes, tuple[int, ...]]:
    """Outcomes of the adaptive plan beside the full model's answers, and the gate of each."""
    made = adaptive_answers(
        vlm,
        full.items,
        plan,
        batch_size=batch_size,
        max_new_tokens=full.max_new_tokens,
        checkpoint=checkpoint,
    )
    outcomes = Outcomes.of_words(
        full.items,
        full.texts,
        made.texts,
        at_limit=full.at_limit,
        max_new_tokens=full.max_new_tokens,
    )
    return outcomes, made.gates


def adaptive_batch(
    vlm: VLM, batch: Batch, plan: AdaptivePlan, *, max_new_tokens: int = MAX_NEW_TOKENS
) -> AdaptiveAnswers:
    """Answers to one batch; see `adaptive_answers`."""
    return timed_batch(vlm, batch, plan, max_new_tokens=max_new_tokens)[0]


def timed_batch(
    vlm: VLM, batch: Batch, plan: AdaptivePlan, *, max_new_tokens: int
) -> tuple[AdaptiveAnswers, float]:
    """Answers to one batch, and the seconds spent on signals."""
    if not plan.by_token:
        run = AdaptiveRun(vlm, batch, plan, max_new_tokens=max_new_tokens)
        return run_gates(run, plan), run.deciding
    gate = plan.gates[0]
    made, deciding = decide_by_token(vlm, batch.inputs, gate, max_new_tokens=max_new_tokens)
    return AdaptiveAnswers(batch.items, texts_of(vlm, made.tokens), made.gates), deciding


def run_gates(run: AdaptiveRun, plan: AdaptivePlan) -> AdaptiveAnswers:
    """Answers of all rows of a run that has not begun."""
    items = run.batch.items
    texts, gates = [""] * len(items), [len(plan.gates)] * len(items)
    for stood in standing(run, plan):
        for row, text in zip(stood.rows, stood.made.texts(run.vlm), strict=True):
            texts[row], gates[row] = text, stood.gate
    return AdaptiveAnswers(items, tuple(texts), tuple(gates))


@dataclass(frozen=True)
class Standing:
    """Answers that stand at a gate, and of which rows of the batch they are.

    Attributes:
        gate: number of the gate; the number of gates for the full model.
        rows: of the batch.
        made: what was generated for these rows.
    """

    gate: int
    rows: tuple[int, ...]
    made: Generated


def standing(run: AdaptiveRun, plan: AdaptivePlan) -> Iterator[Standing]:
    """The answers of a run that has not begun, gate by gate; each row once."""
    for number, gate in enumerate(plan.gates):
        made, signals = run.at_gate(gate)
        stands = gate.passes(signals)
        sure = [place for place, stood in enumerate(stands) if stood]
        if sure:
            yield Standing(number, tuple(run.rows[place] for place in sure), made.rows(sure))
        if len(sure) == len(stands):
            return
        run.narrow([place for place, stood in enumerate(stands) if not stood])
    yield Standing(len(plan.gates), tuple(run.rows), run.ask(None))


class AdaptiveRun(SharedRun):
    """The runs of one batch under an adaptive plan, each on the rows that are left.

    Attributes:
        deciding: seconds spent on signals so far, not on the answers that they judge.
    """

    def __init__(self, vlm: VLM, batch: Batch, plan: AdaptivePlan, *, max_new_tokens: int) -> None:
        order = (*dict.fromkeys(plan.plans), None)
        super().__init__(vlm, batch, order, max_new_tokens=max_new_tokens)
        self.deciding = 0.0
        self._uses = Counter(plan.plans)
        self._kept: dict[SkipPlan, Generated] = {}

    def ask(self, plan: SkipPlan | None, *, until: StoppingCriteria | None = None) -> Generated:
        """As of a `SharedRun`; answers under a plan of several gates are kept for them."""
        if until is not None:
            return super().ask(plan, until=until)
        if plan is None:
            return self.ask_anew(plan)
        made = self._kept.pop(plan, None) or self.ask_anew(plan)
        self._uses[plan] -= 1
        if self._uses[plan] > 0:
            self._kept[plan] = made
        return made

    def ask_anew(self, plan: SkipPlan | None) -> Generated:
        """As of a `SharedRun`."""
        return super().ask(plan)

    def narrow(self, places: Sequence[int]) -> None:
        """As of a `SharedRun`, of the kept answers too."""
        super().narrow(places)
        self._kept = {plan: made.rows(places) for plan, made in self._kept.items()}

    def at_gate(self, gate: Gate) -> tuple[Generated, list[float]]:
        """The answers under the plan of a gate, and how sure they are."""
        made = self.ask(gate.plan)
        second = None if gate.second is None else self.ask(gate.second)
        start = time.perf_counter()
        if second is None:
            signals = signals_of(self.vlm, made, gate.signal, gate.over)
        else:
            signals = agreements(self.vlm, made, second, gate.over)
        self.deciding += time.perf_counter() - start
        return made, signals
